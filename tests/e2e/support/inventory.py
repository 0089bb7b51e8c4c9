"""Reading the inventory the way its users do: SQL on one table per bucket."""

import re
import sqlite3
from datetime import datetime
from pathlib import Path


def table_of(bucket):
    """The documented name rule; collisions and over-long names have rules of their own."""
    return "bucket_" + re.sub(r"[^A-Za-z0-9]+", "_", bucket)


class PostgresInventory:
    def __init__(self, cluster, database):
        self.cluster = cluster
        self.database = database

    def settings(self, address=None):
        return self.cluster.environment(self.database, address)

    def query(self, sql, parameters=None):
        return self.cluster.query(self.database, sql, parameters)

    def rows(self, bucket):
        """All rows of a bucket; none when nothing of it was ever written."""
        table = table_of(bucket)
        found = self.query("SELECT 1 FROM pg_tables WHERE tablename = %s", [table])
        return self.query(f'SELECT * FROM "{table}"') if found else []


class SqliteInventory:
    """The embedded inventory: an SQLite file somewhere below DATA_DIR, found by its table."""

    def __init__(self, data_dir):
        self.data_dir = Path(data_dir)

    def files(self):
        """SQLite files below DATA_DIR that hold at least one inventory table."""
        found = []
        for path in sorted(self.data_dir.rglob("*")):
            if path.is_file() and _is_sqlite(path):
                with _read_only(path) as connection:
                    tables = connection.execute(
                        "SELECT name FROM sqlite_master "
                        "WHERE type = 'table' AND substr(name, 1, 7) = 'bucket_'"
                    ).fetchall()
                if tables:
                    found.append(path)
        return found

    def query(self, sql, parameters=()):
        files = self.files()
        assert len(files) == 1, f"expected one inventory file, found {files}"
        with _read_only(files[0]) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters).fetchall()]

    def rows(self, bucket):
        table = table_of(bucket)
        if not self.files():
            return []
        if not self.query("SELECT 1 FROM sqlite_master WHERE name = ?", [table]):
            return []
        rows = self.query(f'SELECT * FROM "{table}"')
        for row in rows:
            row["last_modified"] = datetime.fromisoformat(row["last_modified"])
            row["deleted"] = bool(row["deleted"])
            row["is_backed_up"] = bool(row["is_backed_up"])
        return rows


def _is_sqlite(path):
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


class _read_only:
    """A connection that is closed at the end of the block (sqlite3's own only commits)."""

    def __init__(self, path):
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)

    def __enter__(self):
        return self.connection

    def __exit__(self, *_):
        self.connection.close()
