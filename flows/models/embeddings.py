"""Image embeddings kept on disk, so that an annotator's click costs one decoder call."""

from collections.abc import Sequence

from engine.model.embedding import ImageEmbedding
from flows.workspace import Workspace
from storage.rows import EmbeddingRow, utcnow


class EmbeddingStore:
    """Keeps and finds embeddings by image and encoder."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def keep(self, items: Sequence[tuple[str, ImageEmbedding]]) -> None:
        """Store `(image_id, embedding)` pairs and their rows, in one commit."""
        rows = []
        for image_id, embedding in items:
            key = f"embeddings/{embedding.encoder_id}/{image_id}.safetensors"
            stored = self._workspace.objects.put(key, embedding.to_bytes())
            rows.append(
                EmbeddingRow(
                    image_id=image_id,
                    encoder_id=embedding.encoder_id,
                    uri=stored.uri,
                    sha256=stored.sha256,
                    bytes=stored.bytes,
                    created_at=utcnow(),
                )
            )
        self._workspace.lake.commit(lambda tx: tx.insert(rows), message="embeddings")

    def find(self, image_id: str, encoder_id: str) -> ImageEmbedding | None:
        """The stored embedding, checked against its SHA-256; None when there is none."""
        rows = self._workspace.lake.rows(
            "SELECT uri, sha256 FROM embeddings WHERE image_id = ? AND encoder_id = ? "
            "ORDER BY created_at DESC LIMIT 1",
            (image_id, encoder_id),
        )
        if not rows:
            return None
        data = self._workspace.objects.get(rows[0]["uri"], sha256=rows[0]["sha256"])
        return ImageEmbedding.from_bytes(data)
