"""Carries a queue as a process, which tests kill: carrier.py FROM TO."""

import sys

from storage.queue import copying
from storage.queue.database import Database

source, target = (Database.open(url, even_moved=True) for url in sys.argv[1:])
copying.carry(source, target)
copying.release(target)
