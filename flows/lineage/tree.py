"""Where something of the store comes from, as a tree: `maskloop lineage`.

A mask leads to its prompt, its person, its run and its model; a model to its parent and to what it
learnt, which are masks of people, some made with the help of an earlier model; and so on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flows.lineage.named import Named
from storage.catalog.lake import Lake

DEPTH = 6
# Of a long list this many are shown; the others are counted.
_WIDTH = 20

_GROUPED = "stage, annotator, model_version"
_COUNTS = "count(*) AS masks, count(DISTINCT image_id) AS images, max(generation_depth) AS depth"
Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """Something, what it is to the node above it, and what is below it.

    `num_cut` are the nodes below it that are not shown, not counting what is below those. A node
    that the tree has elsewhere with what is below it says `is_repeated`.
    """

    relation: str
    kind: str
    name: str
    facts: Facts = field(default_factory=dict)
    below: tuple["Node", ...] = ()
    num_cut: int = 0
    is_repeated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For `--json`, nested."""
        return {
            "relation": self.relation,
            "kind": self.kind,
            "name": self.name,
            **({"facts": self.facts} if self.facts else {}),
            **({"below": [node.to_dict() for node in self.below]} if self.below else {}),
            **({"num_cut": self.num_cut} if self.num_cut else {}),
            **({"is_repeated": True} if self.is_repeated else {}),
        }


def tree(lake: Lake, what: Named, depth: int = DEPTH) -> Node:
    """The tree of something, `depth` levels deep, as the store is now."""
    root = Node(relation="", kind=what.kind, name=what.name)
    return _Grower(lake).grown(root, depth)


class _Grower:
    """Grows nodes; each is grown once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._grown: set[tuple[str, str]] = set()
        self._rules: Mapping[str, Callable[[Node], tuple[Facts, list[Node]]]] = {
            "mask": self._mask,
            "model": self._model,
            "detector": self._detector,
            "training set": self._training_set,
            "masks": self._group,
            "run": self._run,
            "image": self._image,
            "snapshot": self._snapshot,
            "export": self._export,
        }

    def grown(self, node: Node, depth: int) -> Node:
        rule = self._rules.get(node.kind)
        if rule is None:
            return node
        key = (node.kind, node.name)
        if node.kind != "masks":
            if key in self._grown:
                return replace(node, is_repeated=True)
            self._grown.add(key)
        facts, found = rule(node)
        node = replace(node, facts={**node.facts, **facts})
        if depth == 0:
            # What is not shown here may be shown elsewhere.
            self._grown.discard(key)
            return replace(node, num_cut=len(found))
        below = tuple(self.grown(each, depth - 1) for each in found[:_WIDTH])
        return replace(node, below=below, num_cut=max(0, len(found) - _WIDTH))

    def _rows(
        self, sql: str, params: Sequence[Any] = (), snapshot: int | None = None
    ) -> list[Facts]:
        return self._lake.rows(sql, params, snapshot=snapshot)

    def _mask(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM mask_lineage WHERE mask_id = ?", (node.name,))
        names = ("stage", "generation_depth", "created_at", "retracted_by")
        links = (
            ("of", "image", row["image_id"]),
            ("by", "person", row["annotator"]),
            ("in", "run", row["run_id"]),
            ("with", "model", row["model_version"]),
            ("in boxes of", "detector", row["detector_version"]),
            ("instead of", "mask", row["supersedes"]),
            ("replaced by", "mask", row["superseded_by"]),
        )
        below = [self._prompt(row), *self._linked(links), *self._learners(node.name)]
        return _said(row, names), [each for each in below if each is not None]

    def _prompt(self, row: Facts) -> Node | None:
        if row["prompt"] is None:
            return None
        clicks = self._rows(
            "SELECT count(*) AS clicks FROM clicks WHERE mask_id = ?", (row["mask_id"],)
        )[0]
        facts = {"proposal": row["proposal_id"], "clicks": clicks["clicks"] or None}
        return Node(relation="asked for by", kind="prompt", name=row["prompt"], facts=_only(facts))

    def _linked(self, links: Sequence[tuple[str, str, str | None]]) -> list[Node]:
        # An image or a run of everything's is told, not grown: it would lead back to everything.
        return [
            self._told(Node(relation=relation, kind=kind, name=name))
            for relation, kind, name in links
            if name is not None
        ]

    def _told(self, node: Node) -> Node:
        kinds = {"run": ("runs", "run_id", _RUN), "image": ("images", "image_id", _IMAGE)}
        if node.kind == "mask" and node.relation == "replaced by":
            return replace(node, kind="later mask")
        if node.kind not in kinds:
            return node
        table, key, names = kinds[node.kind]
        found = self._rows(f"SELECT * FROM {table} WHERE {key} = ?", (node.name,))
        facts = _said(found[0], names) if found else {}
        return replace(node, kind=f"the {node.kind}", facts=facts)

    def _learners(self, mask_id: str) -> list[Node]:
        rows = self._rows(
            "SELECT DISTINCT version FROM training_masks WHERE mask_id = ? ORDER BY 1", (mask_id,)
        )
        return [Node(relation="taught", kind="learner", name=row["version"]) for row in rows]

    def _model(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM model_lineage WHERE version = ?", (node.name,))
        names = ("status", "role", "architecture", "generation_depth", "descends_from_revoked")
        links = (("trained from", "model", row["parent"]), ("in", "run", row["run_id"]))
        facts = _said(row, names)
        return facts, [*self._linked(links), *self._taught_by(node.name, row)]

    def _detector(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM detectors WHERE version = ?", (node.name,))
        links = (("on", "model", row["model_version"]), ("in", "run", row["run_id"]))
        return {}, [*self._linked(links), *self._taught_by(node.name, row)]

    def _taught_by(self, version: str, row: Facts) -> list[Node]:
        if not row["num_training_masks"]:
            return []
        facts = {
            "snapshot": row["training_snapshot"],
            "images": row["num_training_images"],
            "masks": row["num_training_masks"],
        }
        return [Node(relation="learnt", kind="training set", name=version, facts=facts)]

    def _training_set(self, node: Node) -> tuple[Facts, list[Node]]:
        rows = self._rows(
            f"""SELECT {_GROUPED}, count(*) AS masks, count(DISTINCT m.image_id) AS images,
                       max(generation_depth) AS depth, count(r.mask_id) AS revoked
                FROM training_masks t JOIN masks m USING (mask_id)
                LEFT JOIN (FROM retractions WHERE cause IS NOT NULL) r USING (mask_id)
                WHERE t.version = ? GROUP BY {_GROUPED} ORDER BY masks DESC, {_GROUPED}""",
            (node.name,),
        )
        return {}, [_masks("of", row) for row in rows]

    def _group(self, node: Node) -> tuple[Facts, list[Node]]:
        version = node.facts.get("model_version")
        return {}, self._linked((("with", "model", version),))

    def _run(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM runs WHERE run_id = ?", (node.name,))
        made = self._rows(
            f"SELECT {_GROUPED}, {_COUNTS} FROM masks WHERE run_id = ? "
            f"GROUP BY {_GROUPED} ORDER BY masks DESC, {_GROUPED}",
            (node.name,),
        )
        versions = self._rows("SELECT version FROM model_versions WHERE run_id = ?", (node.name,))
        models = [row["version"] for row in versions]
        used = row["model_version"] if row["model_version"] not in models else None
        below = self._linked((("part of", "run", row["parent_run_id"]), ("used", "model", used)))
        below += [Node(relation="made", kind="model", name=version) for version in models]
        below += [_masks("made", each) for each in made]
        below += self._exports("run_id = ?", node.name)
        return _said(row, _RUN), below

    def _image(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM images WHERE image_id = ?", (node.name,))
        standing = self._rows(
            "SELECT mask_id FROM current_masks WHERE image_id = ? ORDER BY created_at, mask_id",
            (node.name,),
        )
        learners = self._rows(
            "SELECT version, num_masks AS masks FROM training_sets WHERE image_id = ? ORDER BY 1",
            (node.name,),
        )
        below = [Node(relation="has", kind="mask", name=each["mask_id"]) for each in standing]
        below += self._linked((("brought by", "run", row["run_id"]),))
        below += [
            Node(relation="taught", kind="learner", name=each.pop("version"), facts=each)
            for each in learners
        ]
        return _said(row, _IMAGE), below

    def _snapshot(self, node: Node) -> tuple[Facts, list[Node]]:
        number = int(node.name)
        found = self._rows(
            "SELECT snapshot_time AS committed_at, author, commit_message AS message "
            "FROM lake.snapshots() WHERE snapshot_id = ?",
            (number,),
        )
        standing = self._standing(number, None)
        trained = self._rows(
            "SELECT version FROM model_versions WHERE training_snapshot = ? AND "
            "num_training_masks > 0 ORDER BY created_at",
            (number,),
        )
        below = [_masks("stand", row) for row in standing]
        below += [Node(relation="taught", kind="model", name=row["version"]) for row in trained]
        below += self._exports("snapshot = ?", number)
        return _only(found[0]) if found else {}, below

    def _export(self, node: Node) -> tuple[Facts, list[Node]]:
        [row] = self._rows("SELECT * FROM exports WHERE export_id = ?", (node.name,))
        names = ("file_name", "format", "snapshot", "num_images", "num_masks", "sha256")
        stages = json.loads(row["options"])["stages"]
        below = [_masks("of", each) for each in self._standing(row["snapshot"], stages)]
        return _said(row, names), [*below, *self._linked((("in", "run", row["run_id"]),))]

    def _standing(self, snapshot: int, stages: Sequence[str] | None) -> list[Facts]:
        where = "" if stages is None else "WHERE list_contains(?, stage)"
        return self._rows(
            f"SELECT {_GROUPED}, {_COUNTS} FROM current_masks {where} "
            f"GROUP BY {_GROUPED} ORDER BY masks DESC, {_GROUPED}",
            () if stages is None else (list(stages),),
            snapshot,
        )

    def _exports(self, where: str, value: object) -> list[Node]:
        rows = self._rows(
            f"SELECT export_id, file_name, num_masks AS masks FROM exports WHERE {where} "
            "ORDER BY created_at",
            (value,),
        )
        return [
            Node(relation="written to", kind="file", name=row.pop("export_id"), facts=row)
            for row in rows
        ]


_RUN = ("stage", "status", "recipe", "iteration", "started_at")
_IMAGE = ("file_name", "split", "source")


def _masks(relation: str, row: Facts) -> Node:
    """Masks of one stage, person and model."""
    name = " ".join(str(row[part]) for part in ("stage", "annotator", "model_version") if row[part])
    return Node(relation=relation, kind="masks", name=name, facts=_only(row))


def _said(row: Facts, names: Sequence[str]) -> Facts:
    return _only({name: row[name] for name in names})


def _only(facts: Facts) -> Facts:
    """Without what is not known."""
    return {name: value for name, value in facts.items() if value is not None}
