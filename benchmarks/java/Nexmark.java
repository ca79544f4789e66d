// Queries of Nexmark as programs of Kafka Streams, for `python -m benchmarks.streams`: the same questions, records,
// topics and guarantee as services/nexmark/queries, one thread. Arguments: servers, prefix of topics, application,
// query, state directory.
//
// What they write is compared with what DuckDB says (benchmarks/answers.py). What that takes here:
// - Behind a repartition the grace is half a minute (BEHIND): a task's time is that of the newest record it has seen,
//   and of a backlog some partitions are ahead of others, by more than the four seconds that records come out of order.
// - Results on close are held by suppress, behind a store with a cache. EmitStrategy.onWindowClose does without the
//   second buffer, but without the cache too: with it q5 and q11 had 5,775 and 3,372 records a second where these have
//   13,265 and 9,007 (one run each, on a machine with a load of 10 and of 7). It also looks once a second by the clock
//   which windows are over, and loses those that have left its store by then.
// - A store keeps ten minutes more than the grace, for the next record of a partition may be much later.
// - A closed window's result has the time of its last record, not of its end: q5, whose windows overlap, sets it.

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

public final class Nexmark {
    public record Person(long id, String name, String email, String credit_card, String city, String state,
                         String date_time, String extra) {}

    public record Auction(long id, String item, String description, long initial_bid, long reserve, String date_time,
                          String expires, long seller, int category, String extra) {}

    public record Bid(long auction, long bidder, long price, String channel, String url, String date_time,
                      String extra) {}

    public record InEuros(long auction, long bidder, BigDecimal price, String date_time, String extra) {}

    public record Offer(long auction, long price) {}

    public record Count(long auction, long bids) {}

    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Seen(String name, boolean sold) {}

    public record Newcomer(long id, String name, long since) {}

    static final ObjectMapper MAPPER =
            new ObjectMapper().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
    static final Suppressed<Windowed<?>> WHEN_CLOSED =
            Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded());
    static final BigDecimal EURO = new BigDecimal("0.908");
    static final Duration OUT_OF_ORDER = Duration.ofSeconds(4);
    static final Duration BEHIND = Duration.ofSeconds(30);
    static final Duration KEPT = Duration.ofMinutes(10);
    static final Duration TEN = Duration.ofSeconds(10);
    static final Duration TWO = Duration.ofSeconds(2);

    static <T> Serde<T> json(TypeReference<T> type) {
        ObjectReader reader = MAPPER.readerFor(type);
        ObjectWriter writer = MAPPER.writerFor(type);
        Serializer<T> to = (topic, value) -> {
            try {
                return value == null ? null : writer.writeValueAsBytes(value);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        };
        Deserializer<T> from = (topic, bytes) -> {
            try {
                return bytes == null ? null : reader.readValue(bytes);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        };
        return Serdes.serdeFrom(to, from);
    }

    static final Serde<String> KEY = Serdes.String();
    static final Serde<Windowed<String>> WINDOW =
            WindowedSerdes.timeWindowedSerdeFrom(String.class, TEN.toMillis());
    static final Serde<Windowed<String>> SESSION = WindowedSerdes.sessionWindowedSerdeFrom(String.class);
    static final Serde<Long> NUMBER = json(new TypeReference<>() {});
    static final Serde<Person> PERSON = json(new TypeReference<>() {});
    static final Serde<Auction> AUCTION = json(new TypeReference<>() {});
    static final Serde<Bid> BID = json(new TypeReference<>() {});
    static final Serde<List<Bid>> BIDS = json(new TypeReference<>() {});
    static final Serde<Count> COUNT = json(new TypeReference<>() {});
    static final Serde<List<Count>> COUNTS = json(new TypeReference<>() {});
    static final Serde<Seen> SEEN = json(new TypeReference<>() {});
    static final Serde<Newcomer> NEWCOMER = json(new TypeReference<>() {});
    static final Serde<InEuros> IN_EUROS = json(new TypeReference<>() {});
    static final Serde<Offer> OFFER = json(new TypeReference<>() {});

    final StreamsBuilder builder = new StreamsBuilder();
    final String prefix;
    final String results;

    Nexmark(String prefix, String application) {
        this.prefix = prefix;
        this.results = application + "-results";
    }

    static long millis(String time) {
        return Instant.parse(time).toEpochMilli();
    }

    KStream<String, Bid> bids() {
        return builder.stream(prefix + "-bids", Consumed.with(KEY, BID)
                .withTimestampExtractor((record, before) -> millis(((Bid) record.value()).date_time())));
    }

    static TimeWindows every(Duration size, Duration grace) {
        return TimeWindows.ofSizeAndGrace(size, grace);
    }

    /** Windows of ten seconds or less. */
    static <V> Materialized<String, V, WindowStore<Bytes, byte[]>> kept(String name, Serde<V> serde, Duration grace) {
        return Materialized.<String, V, WindowStore<Bytes, byte[]>>as(name).withKeySerde(KEY).withValueSerde(serde)
                .withRetention(TEN.plus(grace).plus(KEPT));
    }

    void q0() {
        bids().to(results, Produced.with(KEY, BID));
    }

    void q1() {
        bids().mapValues(b -> new InEuros(b.auction(), b.bidder(), EURO.multiply(BigDecimal.valueOf(b.price())),
                b.date_time(), b.extra())).to(results, Produced.with(KEY, IN_EUROS));
    }

    void q2() {
        bids().filter((key, b) -> b.auction() % 123 == 0).mapValues(b -> new Offer(b.auction(), b.price()))
                .to(results, Produced.with(KEY, OFFER));
    }

    /** The windows that end together, at their end. */
    static final class Together extends ContextualProcessor<Windowed<String>, Long, String, Count> {
        @Override
        public void process(Record<Windowed<String>, Long> counted) {
            Windowed<String> one = counted.key();
            context().forward(counted.withKey(Long.toString(one.window().start()))
                    .withValue(new Count(Long.parseLong(one.key()), counted.value()))
                    .withTimestamp(one.window().end() - 1));
        }
    }

    static List<Count> most(List<Count> hot, Count one) {
        if (hot.isEmpty() || one.bids() > hot.get(0).bids()) {
            return List.of(one);
        }
        if (one.bids() < hot.get(0).bids()) {
            return hot;
        }
        List<Count> more = new ArrayList<>(hot);
        more.add(one);
        return more;
    }

    void q5() {
        KStream<String, Count> together = bids().groupByKey(Grouped.with(KEY, BID))
                .windowedBy(every(TEN, OUT_OF_ORDER).advanceBy(TWO))
                .count(kept("counts", Serdes.Long(), OUT_OF_ORDER)).suppress(WHEN_CLOSED).toStream()
                .process(Together::new);
        together.groupByKey(Grouped.with("by-window", KEY, COUNT)).windowedBy(every(TWO, BEHIND))
                .aggregate(List::<Count>of, (key, one, hot) -> most(hot, one), kept("hottest", COUNTS, BEHIND))
                .suppress(WHEN_CLOSED).toStream().flatMapValues(hot -> hot).to(results, Produced.with(WINDOW, COUNT));
    }

    static List<Bid> highest(List<Bid> best, Bid bid) {
        if (best.isEmpty() || bid.price() > best.get(0).price()) {
            return List.of(bid);
        }
        if (bid.price() < best.get(0).price()) {
            return best;
        }
        List<Bid> more = new ArrayList<>(best);
        more.add(bid);
        return more;
    }

    void q7() {
        KStream<String, Bid> ofWindow = bids().groupByKey(Grouped.with(KEY, BID))
                .windowedBy(every(TEN, OUT_OF_ORDER))
                .aggregate(List::<Bid>of, (key, bid, best) -> highest(best, bid),
                        kept("of-auction", BIDS, OUT_OF_ORDER)).suppress(WHEN_CLOSED).toStream()
                .flatMap((window, best) -> best.stream()
                        .map(bid -> KeyValue.pair(Long.toString(window.window().start()), bid)).toList());
        ofWindow.groupByKey(Grouped.with("by-window", KEY, BID)).windowedBy(every(TEN, BEHIND))
                .aggregate(List::<Bid>of, (key, bid, best) -> highest(best, bid), kept("highest", BIDS, BEHIND))
                .suppress(WHEN_CLOSED).toStream().flatMapValues(best -> best).to(results, Produced.with(WINDOW, BID));
    }

    void q8() {
        KStream<String, Seen> came = builder.stream(prefix + "-persons", Consumed.with(KEY, PERSON)
                .withTimestampExtractor((record, before) -> millis(((Person) record.value()).date_time())))
                .mapValues(person -> new Seen(person.name(), false));
        KStream<String, Seen> sold = builder.stream(prefix + "-auctions", Consumed.with(KEY, AUCTION)
                .withTimestampExtractor((record, before) -> millis(((Auction) record.value()).date_time())))
                .map((key, auction) -> KeyValue.pair(Long.toString(auction.seller()), new Seen(null, true)));
        came.merge(sold).groupByKey(Grouped.with("by-person", KEY, SEEN)).windowedBy(every(TEN, BEHIND))
                .aggregate(() -> new Seen(null, false), (key, one, seen) ->
                        new Seen(seen.name() != null ? seen.name() : one.name(), seen.sold() || one.sold()),
                        kept("seen", SEEN, BEHIND)).suppress(WHEN_CLOSED).toStream()
                .filter((window, seen) -> seen.name() != null && seen.sold())
                .mapValues((window, seen) ->
                        new Newcomer(Long.parseLong(window.key()), seen.name(), window.window().start()))
                .to(results, Produced.with(WINDOW, NEWCOMER));
    }

    void q11() {
        bids().groupBy((key, bid) -> Long.toString(bid.bidder()), Grouped.with("by-bidder", KEY, BID))
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(TEN, BEHIND))
                .count(Materialized.<String, Long, SessionStore<Bytes, byte[]>>as("bids")
                        .withRetention(TEN.plus(BEHIND).plus(KEPT)))
                .suppress(WHEN_CLOSED).toStream().to(results, Produced.with(SESSION, NUMBER));
    }

    void q12() {
        builder.stream(prefix + "-bids", Consumed.with(KEY, BID))
                .groupBy((key, bid) -> Long.toString(bid.bidder()), Grouped.with("by-bidder", KEY, BID))
                .windowedBy(every(TEN, BEHIND)).count().toStream().to(results, Produced.with(WINDOW, NUMBER));
    }

    /** As large batches as kstream's, and packed as those are. */
    static Properties settings() {
        Properties own = new Properties();
        own.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1 << 20);
        own.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        own.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 << 20);
        return own;
    }

    public static void main(String[] given) throws Exception {
        Nexmark nexmark = new Nexmark(given[1], given[2]);
        Nexmark.class.getDeclaredMethod(given[3]).invoke(nexmark);
        Running.untilClosed(nexmark.builder, given[0], given[2], given[4], settings());
    }
}
