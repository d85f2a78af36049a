"""Files of PostgreSQL's write-ahead log, made before they are needed.

Making one, 16 MiB of zeros that must be on disk, stops every commit meanwhile: 40 ms where writing a token takes two.
Each checkpoint has the old ones used again; a new cluster has none.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg

FILES = 16  # PostgreSQL keeps as many (`min_wal_size`)
BYTES = FILES * 16 * 2**20
_ROOM = 8 * BYTES  # on the disk: who has less needs it for something else


def prepare(superuser_dsn: str, data: Path) -> None:
    """Once in the life of a cluster, whose folder is `data`."""
    if shutil.disk_usage(data).free < _ROOM:
        return
    with psycopg.connect(superuser_dsn, autocommit=True) as db:
        (there,) = db.execute("SELECT count(*) FROM pg_ls_waldir()").fetchone() or (0,)
        if there >= FILES // 2:
            return
        for _ in range(FILES):  # what is written ends the file that was begun, so the next is made
            db.execute("SELECT pg_create_restore_point('a new file'), pg_switch_wal()")
        db.execute("CHECKPOINT")
