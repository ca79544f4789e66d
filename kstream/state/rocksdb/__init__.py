"""Committed stores on disk, in RocksDB. The only importer of rocksdict."""

from kstream.state.rocksdb.backend import RocksBackend as RocksBackend
from kstream.state.rocksdb.memory import RocksMemory as RocksMemory
from kstream.state.rocksdb.reader import RocksReader as RocksReader
from kstream.state.rocksdb.reader import is_damage as is_damage
from kstream.state.rocksdb.scan import MARK_KEY as MARK_KEY
