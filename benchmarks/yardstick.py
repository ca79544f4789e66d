"""The yardstick: the same jobs written by hand, for speed alone.

`aggregate` is a keyed aggregation under exactly-once: count and sum of price by auction, in RocksDB, with a changelog,
the new total out per record (`update`) or per changed key and commit (`commit`). `restore` reads a changelog into
RocksDB. `forward` is what the clients alone take, below which nothing can get that uses them from Python: each record
is consumed and one produced for it, in transactions; with `--decode` its JSON is read and an output's written, too. All
leave out everything a framework must do (rebalances, errors, order of restore, metrics, time): they mark
what is possible in Python on the machine at hand, not what a service may look like.

The aggregation is written as a script, its loop over module-level names, as such loops are written and as the one was
that the bars were set with (moved into a function it takes 10 to 20% less processor time).

Each runs in a process of its own and prints one line of JSON:

    python -m benchmarks.yardstick aggregate --bootstrap HOST:PORT --records N SOURCE OUT CHANGELOG
    python -m benchmarks.yardstick forward --bootstrap HOST:PORT --records N SOURCE OUT
    python -m benchmarks.yardstick restore --bootstrap HOST:PORT --records N CHANGELOG
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from benchmarks.records import Bid, Total
from benchmarks.resident import peak


def make_consumer(bootstrap: str, group: str, prefetch: int = 1_000_000) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 65536,
            "queued.min.messages": prefetch,
            "fetch.queue.backoff.ms": 5,
            "max.partition.fetch.bytes": 4 << 20,
        }
    )


def make_producer(bootstrap: str, name: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": name,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )


def make_database(directory: str) -> Rdict:
    db = Rdict(directory, Options(raw_mode=True))
    no_wal = WriteOptions()
    no_wal.disable_wal = True  # type: ignore[method-assign, assignment]  # the stub is wrong: a property
    db.set_write_options(no_wal)
    return db


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["aggregate", "restore", "forward"])
    parser.add_argument("topics", nargs="+", help="source, output and changelog; or a changelog")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--emit", choices=["update", "commit"], default="update")
    parser.add_argument("--commit-interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--decode", action="store_true", help="forward: read and write the JSON, too")
    parser.add_argument("--prefetch", type=int, default=1_000_000, help="records of each partition")
    return parser.parse_args()


def report(records: int, seconds: float, cpu: float, commits: int) -> None:
    print(json.dumps({"records": records, "seconds": seconds, "cpu": cpu, "commits": commits, "peak_rss": peak()}))


def restore(bootstrap: str, changelog: str, records: int) -> None:
    """Consumes and writes, timed from the first messages in hand until the last are written."""
    consumer = make_consumer(bootstrap, "yardstick-restore")
    directory = tempfile.mkdtemp(prefix="kstream-bench-")
    db = make_database(directory)
    partitions = consumer.list_topics(changelog, timeout=30).topics[changelog].partitions
    consumer.assign([TopicPartition(changelog, partition, 0) for partition in partitions])
    done, started, cpu = 0, 0.0, 0.0
    while done < records:
        messages: list[Any] = consumer.consume(10_000, 0.05)
        if not messages:
            continue
        if not started:
            started, cpu = time.time(), time.process_time()
        batch = WriteBatch(raw_mode=True)
        for message in messages:
            batch.put(message.key(), message.value())
        db.write(batch)
        done += len(messages)
    seconds, cpu = time.time() - started, time.process_time() - cpu
    keys = sum(1 for _ in db.items())
    consumer.close()
    db.close()
    shutil.rmtree(directory)
    if keys != records:
        raise SystemExit(f"the changelog {changelog} gave {keys} keys instead of {records}")
    report(done, seconds, cpu, 0)


def forward(bootstrap: str, source: str, out: str, records: int, *, decode: bool, interval: float) -> None:
    """Timed from the first messages in hand until the commit of the last one. In a function: it is to be as fast as can
    be."""
    name = f"yardstick-{time.time_ns()}"
    consumer, producer = make_consumer(bootstrap, name, 20_000), make_producer(bootstrap, name)
    producer.init_transactions()
    read, write = msgspec.json.Decoder(Bid).decode, msgspec.json.Encoder().encode
    value, total, produce = b'{"auction":12345,"count":123,"sum":1234567}', Total(12345, 123, 1234567), producer.produce
    position: dict[int, int] = {}
    done, commits, started, in_transaction = 0, 0, 0.0, False
    consumer.subscribe([source])
    while done < records:
        messages: list[Any] = consumer.consume(2000, 0.5)
        if not messages:
            continue
        if not started:
            started = committed = time.time()
            cpu = time.process_time()
        if not in_transaction:
            producer.begin_transaction()
            in_transaction = True
        if decode:
            for message in messages:
                total.sum += read(message.value()).price
                produce(out, write(total), message.key())
        else:
            for message in messages:
                produce(out, value, message.key())
        for message in messages:
            position[message.partition()] = message.offset() + 1
        producer.poll(0)
        done += len(messages)
        if time.time() - committed > interval or done >= records:
            offsets = [TopicPartition(source, partition, offset) for partition, offset in position.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction()
            commits += 1
            in_transaction, committed = False, time.time()
    seconds, cpu = time.time() - started, time.process_time() - cpu
    consumer.close()
    report(done, seconds, cpu, commits)


if __name__ == "__main__":
    args = arguments()
    if args.job == "forward":
        forward(args.bootstrap, *args.topics, args.records, decode=args.decode, interval=args.commit_interval)
        sys.exit()
    if args.job == "restore":
        restore(args.bootstrap, args.topics[0], args.records)
        sys.exit()

    # Timed from the first messages in hand until the commit of the last one.
    source, out, changelog = args.topics
    name = f"yardstick-{time.time_ns()}"
    consumer, producer = make_consumer(args.bootstrap, name, args.prefetch), make_producer(args.bootstrap, name)
    producer.init_transactions()
    directory = tempfile.mkdtemp(prefix="kstream-bench-")
    db = make_database(directory)

    decode = msgspec.json.Decoder(Bid).decode
    decode_total = msgspec.json.Decoder(Total).decode
    encode = msgspec.json.Encoder().encode
    produce, per_record = producer.produce, args.emit == "update"
    state: dict[bytes, Total] = {}
    dirty: dict[bytes, Total] = {}
    position: dict[int, int] = {}
    done, commits, started, in_transaction = 0, 0, 0.0, False
    consumer.subscribe([source])
    while done < args.records:
        messages: list[Any] = consumer.consume(2000, 0.5)
        if not messages:
            continue
        if not started:
            started = committed = time.time()
            cpu = time.process_time()
        if not in_transaction:
            producer.begin_transaction()
            in_transaction = True
        for message in messages:
            bid, key = decode(message.value()), message.key()
            total = state.get(key)
            if total is None:
                stored = db.get(key)
                total = state[key] = decode_total(stored) if stored else Total(bid.auction, 0, 0)
            total.count += 1
            total.sum += bid.price
            dirty[key] = total
            if per_record:
                produce(out, encode(total), key)
            position[message.partition()] = message.offset() + 1
        producer.poll(0)
        done += len(messages)
        if time.time() - committed > args.commit_interval or done >= args.records:
            batch = WriteBatch(raw_mode=True)
            for key, total in dirty.items():
                value = encode(total)
                produce(changelog, value, key)
                if not per_record:
                    produce(out, value, key)
                batch.put(key, value)
            producer.send_offsets_to_transaction(
                [TopicPartition(source, partition, offset) for partition, offset in position.items()],
                consumer.consumer_group_metadata(),
            )
            producer.commit_transaction()
            db.write(batch)
            dirty.clear()
            commits += 1
            in_transaction, committed = False, time.time()
    seconds, cpu = time.time() - started, time.process_time() - cpu
    consumer.close()
    db.close()
    shutil.rmtree(directory)
    report(done, seconds, cpu, commits)
