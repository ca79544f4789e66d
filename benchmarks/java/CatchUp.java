// The service of benchmarks/catchup_service.py as a program of Kafka Streams, for `python -m benchmarks.catchup`: the same
// records, topics, windows and guarantee, one thread. Arguments: servers, application, state directory.
//
// suppress, and not EmitStrategy.onWindowClose: that looks once a second by the clock which windows are over, and loses
// those that have left its store by then, as they do where an hour passes in seconds.

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.WindowStore;

public final class CatchUp {
    static final Serde<String> TEXT = Serdes.String();
    static final Duration WINDOW = Duration.ofMinutes(1);
    static final Duration GRACE = Duration.ofMinutes(1);
    static final int KEYS = 10;

    public static void main(String[] given) throws Exception {
        String application = given[1];
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(application + "-in", Consumed.with(TEXT, TEXT))
                .groupBy((key, value) -> Long.toString(Long.parseLong(value) % KEYS),
                        Grouped.with("by-key", TEXT, TEXT))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("per-minute").withCachingDisabled())
                .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                .toStream().mapValues(count -> Long.toString(count))
                .to(application + "-out",
                        Produced.with(WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW.toMillis()), TEXT));
        Properties settings = new Properties();
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6000); // so long its next start waits for it
        settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 2000);
        Running.untilClosed(builder, given[0], application, given[2], settings);
    }
}
