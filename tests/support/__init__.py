"""What broker and fault tests share: plain Kafka clients, running instances, and an oracle of its own.

`kafka` writes and reads topics without any of kstream; `running` starts instances and waits; `audit` says what the
service of tests/faults must have put out for what was fed, and compares.
"""

import pytest

pytest.register_assert_rewrite("support.audit", "support.kafka", "support.running", "support.scenario")
