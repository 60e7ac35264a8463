"""Published weights by their tag: out of the local cache of the hub first, then from the hub."""

from pathlib import Path

from engine.clip.architectures import published
from engine.model.integrity import UnreachableError

_SAFE, _PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


def hub_file(architecture: str, tag: str, *, cache: Path | None = None) -> Path:
    """The file of a tag of open_clip's; nothing is asked of the network if it is there already.

    cache: the hub's folder (default: where it keeps its files, as HF_HOME says). Raises ValueError
    that lists the tags for one that there is not, UnreachableError where the hub has no such file
    or does not answer.
    """
    known = published(architecture, tag)
    repository, _, name = known["hf_hub"].rpartition("/")
    if not repository:
        where = known["url"] or "its authors"
        raise UnreachableError(
            f"{architecture} {tag}: not on the hub; download it from {where} and give its path"
        )
    safe = str(Path(name).with_suffix(".safetensors")) if name else _SAFE
    names = dict.fromkeys((safe, name or _PICKLED))
    for offline in (True, False):
        for each in names:
            if found := _fetched(repository, each, cache, offline=offline):
                return found
    raise UnreachableError(
        f"{architecture} {tag}: neither in the local cache nor to be had from {repository} on the "
        "hub; check the network, or download it elsewhere and give its path"
    )


def _fetched(repository: str, name: str, cache: Path | None, *, offline: bool) -> Path | None:
    from huggingface_hub import hf_hub_download  # half a second to import
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = hf_hub_download(repository, name, cache_dir=cache, local_files_only=offline)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        return None
    return Path(found)
