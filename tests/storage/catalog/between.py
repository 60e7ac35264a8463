"""between.py FOLDER SERVER: a socket in FOLDER, passed on to the socket SERVER of a Postgres.

When FOLDER has a file named for one of WAYS, the next COMMIT of something written is lost in that
way, and the file goes; while it has a file `down`, nobody gets through. A process of its own, as
DuckDB waits for its database while it keeps Python's threads.
"""

import select
import socket
import sys
import threading
import time
from pathlib import Path

LATE_S = 1.5


def lose_answer(server: socket.socket, said: bytes, client: socket.socket, _: Path) -> None:
    """The server commits, and nobody hears of it."""
    server.sendall(said)
    server.recv(65536)
    client.close()


def come_late(server: socket.socket, said: bytes, client: socket.socket, _: Path) -> None:
    """The client has long been told that the connection is gone when the server commits."""
    client.close()
    time.sleep(LATE_S)
    server.sendall(said)
    server.recv(65536)


def go_down(server: socket.socket, said: bytes, client: socket.socket, folder: Path) -> None:
    """The server commits, nobody hears of it, and nobody gets through any more."""
    (folder / "down").touch()
    lose_answer(server, said, client, folder)


WAYS = {"lose_answer": lose_answer, "come_late": come_late, "go_down": go_down}


def pass_on(client: socket.socket, server: socket.socket, folder: Path) -> None:
    has_written = False
    with client, server:
        while True:
            ready, _, _ = select.select([client, server], [], [])
            for one in ready:
                said = one.recv(1 << 20)
                if not said:
                    return
                has_written |= one is client and b"INSERT INTO" in said
                if has_written and one is client and b"COMMIT" in said:
                    for name, way in WAYS.items():
                        if (folder / name).exists():
                            (folder / name).unlink()
                            way(server, said, client, folder)
                            return
                (server if one is client else client).sendall(said)


def main(folder: Path, server_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ".s.PGSQL.5432"))
        listener.listen(64)
        sys.stdout.write("listens\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            if (folder / "down").exists():
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(server_path)
            threading.Thread(target=pass_on, args=(client, server, folder), daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
