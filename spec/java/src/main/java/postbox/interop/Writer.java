package postbox.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;

/** A Java service that writes the envelope with keys k0, k1, … and lets Java's own partitioner choose. */
final class Writer {

    private Writer() {
    }

    static void produce(Task task) throws Exception {
        Lines lines = new Lines(task.count());
        KafkaTemplate<byte[], byte[]> template =
                new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(task.producer()));
        for (int i = 0; i < task.count(); i++) {
            String key = "k" + i;
            String id = UUID.randomUUID().toString();
            ObjectNode envelope = Lines.JSON.createObjectNode();
            envelope.put("eventId", id).put("eventType", "ORDER_CREATED").putObject("payload").put("number", i);
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(task.topic(), key.getBytes(UTF_8),
                    Lines.JSON.writeValueAsBytes(envelope));
            RecordMetadata stored = template.send(record).get(task.seconds(), TimeUnit.SECONDS).getRecordMetadata();
            lines.print(Lines.JSON.createObjectNode().put("key", key).put("eventId", id)
                    .put("partition", stored.partition()).put("offset", stored.offset()));
        }
        template.getProducerFactory().reset();
    }
}
