package postbox.interop;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.HexFormat;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;

/** Standard output: a JSON line for each record, and the wait until all have come. */
final class Lines {

    static final ObjectMapper JSON = new ObjectMapper();

    private final CountDownLatch missing;

    Lines(int count) {
        missing = new CountDownLatch(count);
    }

    synchronized void print(ObjectNode line) {
        if (missing.getCount() == 0) {
            return;
        }
        try {
            System.out.println(JSON.writeValueAsString(line));
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
        missing.countDown();
    }

    long missing() {
        return missing.getCount();
    }

    void await(Task task) throws InterruptedException, TimeoutException {
        if (!missing.await(task.seconds(), TimeUnit.SECONDS)) {
            throw late(task);
        }
    }

    TimeoutException late(Task task) {
        return new TimeoutException(missing() + " of " + task.count() + " records of " + task.topic()
                + " did not come within " + task.seconds() + " s");
    }

    /** Everything of a record, bytes in hex (null stays null), headers in the order of the record. */
    static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode line = JSON.createObjectNode();
        line.put("topic", record.topic());
        line.put("partition", record.partition());
        line.put("offset", record.offset());
        line.put("timestamp", record.timestamp());
        line.put("timestampType", record.timestampType().name);
        line.put("key", hex(record.key()));
        line.put("value", hex(record.value()));
        ArrayNode headers = line.putArray("headers");
        for (Header header : record.headers()) {
            headers.addObject().put("name", header.key()).put("value", hex(header.value()));
        }
        return line;
    }

    static String hex(byte[] bytes) {
        return bytes == null ? null : HexFormat.of().formatHex(bytes);
    }
}
