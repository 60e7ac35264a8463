"""An annotator as a process; tests start several of it and kill them.

worker.py URL NAME JOURNAL: claim and answer until nothing is left, and note what was acknowledged.
worker.py URL NAME JOURNAL fill: answer until the disk is full, then go on with room again.
worker.py URL NAME JOURNAL together: three people claim at once and answer at once.
"""

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

from storage.queue.awaited import AwaitedQueue
from storage.queue.errors import QueueUnavailable, StaleLease
from storage.queue.leases import Claim
from storage.queue.review import ReviewQueue
from storage.queue.submissions import Draft
from storage.queue.work import Lease

# Room for a few answers, not for all.
ROOM_BYTES = 300_000
TEXT = "x" * 40_000


def note(journal: Path, submission_id: str) -> None:
    """On disk before the next step: this is what a client was told."""
    with journal.open("a") as out:
        out.write(submission_id + "\n")
        out.flush()
        os.fsync(out.fileno())


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def answer(queue: ReviewQueue, lease: Lease, name: str, text: str = "") -> str:
    key = f"{lease.item.item_id}/{lease.lease_token}"
    body = {"by": name, "item": lease.item.item_id, "text": text}
    return queue.submit(lease.item.item_id, lease.lease_token, name, key, body).submission_id


def work(queue: ReviewQueue, name: str, journal: Path) -> None:
    while queue.counts()["ready"] or queue.counts()["leased"]:
        lease = queue.claim(name)
        if lease is None:
            time.sleep(0.01)
            continue
        try:
            note(journal, answer(queue, lease, name))
        except StaleLease:
            # Killed and started again, it may hold a lease that ran out meanwhile.
            continue


def fill(url: str, queue: ReviewQueue, name: str, journal: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    file = Path(url.removeprefix("sqlite:///"))
    wal = file.with_name(file.name + "-wal")
    room = max(file.stat().st_size, wal.stat().st_size) + ROOM_BYTES
    # A write beyond it fails, as on a full disk; Python ignores the signal that comes with it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        while lease := queue.claim(name):
            note(journal, answer(queue, lease, name, TEXT))
    except QueueUnavailable as error:
        say(f"full: {error}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    work(queue, name, journal)


async def together(queue: ReviewQueue, name: str, journal: Path) -> None:
    awaited = AwaitedQueue(queue)

    async def answer_one(person: str) -> None:
        lease = await awaited.claim(person, is_lead=False)
        assert lease is not None
        held = Claim(item_id=lease.item.item_id, lease_token=lease.lease_token, annotator=person)
        result = await awaited.submit(Draft.of(held, held.item_id, {"by": person}))
        note(journal, result.submission_id)

    await asyncio.gather(*(answer_one(f"{name} {number}") for number in range(3)))


def main(url: str, name: str, journal: str, how: str = "work") -> None:
    queue = ReviewQueue.open(url)
    say("open")
    if how == "fill":
        fill(url, queue, name, Path(journal))
    elif how == "together":
        asyncio.run(together(queue, name, Path(journal)))
    else:
        work(queue, name, Path(journal))
    queue.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
