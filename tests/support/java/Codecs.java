// Reads and writes what kstream's codecs write and read, with the classes that Java's users have. A line of the input
// is a call, words apart by a space, bytes as hex; a line of the output is what it returns.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;

import org.apache.datasketches.hll.HllSketch;
import org.apache.datasketches.hll.TgtHllType;
import org.apache.datasketches.hll.Union;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.kstream.SessionWindowedDeserializer;
import org.apache.kafka.streams.kstream.SessionWindowedSerializer;
import org.apache.kafka.streams.kstream.TimeWindowedDeserializer;
import org.apache.kafka.streams.kstream.TimeWindowedSerializer;
import org.apache.kafka.streams.kstream.Window;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.internals.SessionWindow;
import org.apache.kafka.streams.kstream.internals.TimeWindow;

public class Codecs {
    static final HexFormat HEX = HexFormat.of();

    static String text(String hex) {
        return new String(HEX.parseHex(hex), StandardCharsets.UTF_8);
    }

    static String said(Windowed<String> key) {
        Window window = key.window();
        return HEX.formatHex(key.key().getBytes(StandardCharsets.UTF_8)) + " " + window.start() + " " + window.end();
    }

    static HllSketch sketch(int lgK, String prefix, int count) {
        HllSketch sketch = new HllSketch(lgK, TgtHllType.HLL_4);
        for (int number = 0; number < count; number++) {
            sketch.update(prefix + number);
        }
        return sketch;
    }

    static String called(String[] call) {
        switch (call[0]) {
            case "read-time":
                return said(new TimeWindowedDeserializer<>(new StringDeserializer(), Long.parseLong(call[2]))
                    .deserialize("topic", HEX.parseHex(call[1])));
            case "read-session":
                return said(new SessionWindowedDeserializer<>(new StringDeserializer())
                    .deserialize("topic", HEX.parseHex(call[1])));
            case "write-time":
                return HEX.formatHex(new TimeWindowedSerializer<>(new StringSerializer()).serialize("topic",
                    new Windowed<>(text(call[3]), new TimeWindow(Long.parseLong(call[1]), Long.parseLong(call[2])))));
            case "write-session":
                return HEX.formatHex(new SessionWindowedSerializer<>(new StringSerializer()).serialize("topic",
                    new Windowed<>(text(call[3]), new SessionWindow(Long.parseLong(call[1]), Long.parseLong(call[2])))));
            case "estimate":
                return String.valueOf(HllSketch.heapify(HEX.parseHex(call[1])).getEstimate());
            case "sketch":
                return HEX.formatHex(sketch(Integer.parseInt(call[1]), call[2], Integer.parseInt(call[3])).toCompactByteArray());
            case "union":
                Union union = new Union(Integer.parseInt(call[2]));
                union.update(HllSketch.heapify(HEX.parseHex(call[1])));
                union.update(sketch(Integer.parseInt(call[2]), call[3], Integer.parseInt(call[4])));
                return String.valueOf(union.getEstimate());
            default:
                throw new IllegalArgumentException(call[0]);
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            System.out.println(called((line + " .").split(" ")));
        }
    }
}
