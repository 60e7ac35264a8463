"""SAM's own training as a configuration (Kirillov et al., 2023, appendix A, "Training recipe").

The paper's numbers are for SA-1B on 256 GPUs. `dataclasses.replace(PAPER, steps=...)` keeps the
shape of the schedule. What the paper leaves open is marked here.
"""

from dataclasses import replace

from engine.training.config import TrainingConfig

_STEPS = 90_000

PAPER = TrainingConfig(
    steps=_STEPS,
    batch_images=256,
    masks_per_image=64,
    late_masks_per_image=64,
    background_per_image=0,
    min_area=1,
    max_cover=0.9,
    # Large-scale jitter, as the paper has for the labels of the data engine's first two stages; all
    # of SA-1B is trained on as it is: (1.0, 1.0).
    crop_scale=(0.1, 2.0),
    crop_scale_law="uniform",
    augment=False,
    box_fraction=0.5,
    box_jitter=0.1,
    box_jitter_sides=None,
    box_jitter_pixels=20.0,
    extra_rounds=(8,),
    extra_rounds_p=(1.0,),
    refine=True,
    mask_loss_weight=20.0,
    focal_over="pixels",
    # Left open; DETR's, which the loss follows.
    focal_alpha=0.25,
    dice_weight=1.0,
    iou_loss_weight=1.0,
    box_is_ambiguous=True,
    mean_share=0.0,
    single_share=0.0,
    supervised_iou="best",
    # Left open: that each round counts as much as the first.
    corrections="sum",
    learning_rate=8e-4,
    schedule="steps",
    warmup_steps=250,
    milestones=(60_000 / _STEPS, 86_666 / _STEPS),
    step_factor=0.1,
    layer_decay=0.8,
    drop_path=0.4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
    ema=0.0,
    checkpoint_every=500,
)
"""ViT-H."""

PAPER_VIT_L = replace(PAPER, steps=180_000, batch_images=128, learning_rate=4e-4)
"""ViT-L: longer, with half the batch; the paper gives no milestones, here at the same fractions."""

PAPER_VIT_B = replace(
    PAPER, steps=180_000, batch_images=128, learning_rate=8e-4, layer_decay=0.6, drop_path=0.6
)
"""ViT-B, likewise."""
