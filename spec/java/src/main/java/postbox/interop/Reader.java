package postbox.interop;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.support.PropertySourcesPlaceholderConfigurer;
import org.springframework.core.env.MapPropertySource;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;

/** A Spring Kafka service as people write it: {@code @KafkaListener} methods with typed header parameters. */
final class Reader {

    private Reader() {
    }

    static void read(Task task, Class<?> listener) throws Exception {
        Lines lines = new Lines(task.count());
        try (AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext()) {
            context.getEnvironment().getPropertySources().addFirst(new MapPropertySource("task",
                    Map.of("topic", task.topic(), "group", task.group("read"))));
            context.registerBean(Task.class, () -> task);
            context.registerBean(Lines.class, () -> lines);
            context.register(Service.class, listener);
            context.refresh();
            lines.await(task);
        }
    }

    @Configuration
    @EnableKafka
    static class Service {
        @Bean
        static PropertySourcesPlaceholderConfigurer placeholders() {
            return new PropertySourcesPlaceholderConfigurer();
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<byte[], byte[]> kafkaListenerContainerFactory(Task task) {
            ConcurrentKafkaListenerContainerFactory<byte[], byte[]> factory =
                    new ConcurrentKafkaListenerContainerFactory<>();
            factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(task.consumer(task.group("read"))));
            return factory;
        }
    }

    /** The envelope as a Java service declares it; Jackson refuses a field that is not here. */
    record Envelope(UUID eventId, String eventType, JsonNode payload) {
    }

    static class Events {
        private final Lines lines;

        Events(Lines lines) {
            this.lines = lines;
        }

        @KafkaListener(topics = "${topic}", groupId = "${group}")
        void on(ConsumerRecord<byte[], byte[]> record,
                @Header(name = "postbox-event-id", required = false) String eventId,
                @Header(name = "postbox-event-type", required = false) String eventType) throws IOException {
            ObjectNode line = Lines.describe(record);
            if (record.value() != null && isJson(record)) {
                Envelope envelope = Lines.JSON.readValue(record.value(), Envelope.class);
                line.put("eventId", envelope.eventId().toString());
                line.put("eventType", envelope.eventType());
                line.set("payload", envelope.payload());
            }
            line.put("headerEventId", eventId);
            line.put("headerEventType", eventType);
            lines.print(line);
        }

        /** Bytes and tombstones have their id and type in the headers alone. */
        private static boolean isJson(ConsumerRecord<byte[], byte[]> record) {
            return record.value().length > 0 && record.value()[0] == '{';
        }
    }

    static class DeadLetters {
        private final Lines lines;

        DeadLetters(Lines lines) {
            this.lines = lines;
        }

        @KafkaListener(topics = "${topic}-dlt", groupId = "${group}")
        void on(ConsumerRecord<byte[], byte[]> record,
                @Header(KafkaHeaders.DLT_ORIGINAL_TOPIC) String topic,
                @Header(KafkaHeaders.DLT_ORIGINAL_PARTITION) int partition,
                @Header(KafkaHeaders.DLT_ORIGINAL_OFFSET) long offset,
                @Header(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP) long timestamp,
                @Header(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP_TYPE) String timestampType,
                @Header(KafkaHeaders.DLT_ORIGINAL_CONSUMER_GROUP) String group,
                @Header(KafkaHeaders.DLT_EXCEPTION_FQCN) String exception,
                @Header(name = KafkaHeaders.DLT_EXCEPTION_CAUSE_FQCN, required = false) String cause,
                @Header(KafkaHeaders.DLT_EXCEPTION_MESSAGE) String message,
                @Header(name = KafkaHeaders.DLT_EXCEPTION_STACKTRACE, required = false) String stackTrace) {
            ObjectNode line = Lines.describe(record);
            line.putObject("read")
                    .put("topic", topic).put("partition", partition).put("offset", offset)
                    .put("timestamp", timestamp).put("timestampType", timestampType).put("group", group)
                    .put("exception", exception).put("cause", cause).put("message", message)
                    .put("stackTrace", stackTrace);
            lines.print(line);
        }
    }
}
