// Queries of Nexmark as programs of Kafka Streams, for `python -m benchmarks.streams`: the same records, topics, windows
// and guarantees as services/nexmark/queries, one thread. Arguments: servers, prefix of topics, query, state directory.

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
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
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

    public record Newcomer(long id, String name, long start) {}

    static final ObjectMapper MAPPER =
            new ObjectMapper().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
    static final BigDecimal EURO = new BigDecimal("0.908");
    static final Duration OUT_OF_ORDER = Duration.ofSeconds(4);
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

    static TimeWindows tumbling(Duration size) {
        return TimeWindows.ofSizeAndGrace(size, OUT_OF_ORDER);
    }

    static String name(Windowed<String> window) {
        return window.key() + "@" + window.window().start();
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

    void q5() {
        KStream<String, Count> together = bids().groupByKey(Grouped.with(KEY, BID))
                .windowedBy(tumbling(TEN).advanceBy(TWO)).emitStrategy(EmitStrategy.onWindowClose())
                .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("counts").withCachingDisabled())
                .toStream()
                .map((window, bids) -> KeyValue.pair(Long.toString(window.window().start()),
                        new Count(Long.parseLong(window.key()), bids)));
        together.groupByKey(Grouped.with("by-window", KEY, COUNT)).windowedBy(tumbling(TWO))
                .emitStrategy(EmitStrategy.onWindowClose())
                .<List<Count>>aggregate(ArrayList::new, (key, one, hot) -> {
                    if (hot.isEmpty() || one.bids() > hot.get(0).bids()) {
                        return List.of(one);
                    }
                    if (one.bids() < hot.get(0).bids()) {
                        return hot;
                    }
                    List<Count> more = new ArrayList<>(hot);
                    more.add(one);
                    return more;
                }, Materialized.<String, List<Count>, WindowStore<Bytes, byte[]>>with(KEY, COUNTS)
                                .withCachingDisabled()).toStream()
                .flatMap((window, hot) -> hot.stream().map(one -> KeyValue.pair(name(window), one)).toList())
                .to(results, Produced.with(KEY, COUNT));
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
        KStream<String, Bid> ofWindow = bids().groupByKey(Grouped.with(KEY, BID)).windowedBy(tumbling(TEN))
                .emitStrategy(EmitStrategy.onWindowClose())
                .<List<Bid>>aggregate(ArrayList::new, (key, bid, best) -> highest(best, bid),
                        Materialized.<String, List<Bid>, WindowStore<Bytes, byte[]>>with(KEY, BIDS)
                                .withCachingDisabled()).toStream()
                .flatMap((window, best) -> best.stream()
                        .map(bid -> KeyValue.pair(Long.toString(window.window().start()), bid)).toList());
        ofWindow.groupByKey(Grouped.with("by-window", KEY, BID)).windowedBy(tumbling(TEN))
                .emitStrategy(EmitStrategy.onWindowClose())
                .<List<Bid>>aggregate(ArrayList::new, (key, bid, best) -> highest(best, bid),
                        Materialized.<String, List<Bid>, WindowStore<Bytes, byte[]>>with(KEY, BIDS)
                                .withCachingDisabled()).toStream()
                .flatMap((window, best) -> best.stream().map(bid -> KeyValue.pair(name(window), bid)).toList())
                .to(results, Produced.with(KEY, BID));
    }

    void q8() {
        KStream<String, Seen> came = builder.stream(prefix + "-persons", Consumed.with(KEY, PERSON)
                .withTimestampExtractor((record, before) -> millis(((Person) record.value()).date_time())))
                .mapValues(person -> new Seen(person.name(), false));
        KStream<String, Seen> sold = builder.stream(prefix + "-auctions", Consumed.with(KEY, AUCTION)
                .withTimestampExtractor((record, before) -> millis(((Auction) record.value()).date_time())))
                .map((key, auction) -> KeyValue.pair(Long.toString(auction.seller()), new Seen(null, true)));
        came.merge(sold).groupByKey(Grouped.with("by-person", KEY, SEEN)).windowedBy(tumbling(TEN))
                .emitStrategy(EmitStrategy.onWindowClose())
                .aggregate(() -> new Seen(null, false), (key, one, seen) ->
                        new Seen(seen.name() != null ? seen.name() : one.name(), seen.sold() || one.sold()),
                        Materialized.<String, Seen, WindowStore<Bytes, byte[]>>with(KEY, SEEN)
                                .withCachingDisabled()).toStream()
                .filter((window, seen) -> seen.name() != null && seen.sold())
                .map((window, seen) -> KeyValue.pair(name(window),
                        new Newcomer(Long.parseLong(window.key()), seen.name(), window.window().start())))
                .to(results, Produced.with(KEY, NEWCOMER));
    }

    void q11() {
        bids().groupBy((key, bid) -> Long.toString(bid.bidder()), Grouped.with("by-bidder", KEY, BID))
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(TEN, OUT_OF_ORDER))
                .emitStrategy(EmitStrategy.onWindowClose()).count().toStream()
                .map((window, count) -> KeyValue.pair(name(window), count))
                .to(results, Produced.with(KEY, Serdes.Long()));
    }

    void q12() {
        builder.stream(prefix + "-bids", Consumed.with(KEY, BID))
                .groupBy((key, bid) -> Long.toString(bid.bidder()), Grouped.with("by-bidder", KEY, BID))
                .windowedBy(TimeWindows.ofSizeWithNoGrace(TEN)).count().toStream()
                .map((window, count) -> KeyValue.pair(name(window), count))
                .to(results, Produced.with(KEY, Serdes.Long()));
    }

    public static void main(String[] given) throws Exception {
        String application = given[1] + "-java-" + given[2];
        Nexmark nexmark = new Nexmark(given[1], application);
        Nexmark.class.getDeclaredMethod(given[2]).invoke(nexmark);
        Running.untilClosed(nexmark.builder, given[0], application, given[3], new Properties());
    }
}
