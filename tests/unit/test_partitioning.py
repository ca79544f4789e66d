"""murmur2 must agree with Java bit for bit."""

import pytest

from kstream.partitioning import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        # librdkafka's unit tests (rdmurmur2.c)
        (b"", 0x106E08D9),
        (b"kafka", 0xD067CF64 - (1 << 32)),
        (b"4", 0x5A4B5CA1),
        (b"34", 0x873930DA - (1 << 32)),
        (b"1234", 0x9FC97B14 - (1 << 32)),
    ],
)
def test_murmur2_is_that_of_java(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected


def test_partition_is_positive_and_within_the_topic() -> None:
    assert partition_of(b"21", 10) == (-973932308 & 0x7FFFFFFF) % 10
    assert {partition_of(str(n).encode(), 3) for n in range(100)} == {0, 1, 2}
