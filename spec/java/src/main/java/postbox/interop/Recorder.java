package postbox.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Deserializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.kafka.support.serializer.ErrorHandlingDeserializer;
import org.springframework.util.backoff.FixedBackOff;

/** A Spring service whose listener always fails: Spring Kafka itself writes the dead letters that are printed here. */
final class Recorder {

    private static final int PARTITIONS = 4;
    private static final byte[] UNDECODABLE = {(byte) 0xff, 0, (byte) 0xfe};

    private Recorder() {
    }

    /** Makes the topics and the records itself: the fixture of the specs. */
    static void record(Task task) throws Exception {
        String deadLetters = task.topic() + "-dlt";
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", task.bootstrap()))) {
            admin.createTopics(Stream.of(task.topic(), deadLetters, deadLetters + "-dlt")
                    .map(name -> new NewTopic(name, PARTITIONS, (short) 1)).toList()).all().get();
        }
        KafkaTemplate<byte[], byte[]> template = template(task);
        ProducerRecord<byte[], byte[]> full = new ProducerRecord<>(task.topic(), 2, "42".getBytes(UTF_8),
                "{\"sku\":\"tea\"}".getBytes(UTF_8));
        full.headers().add("first", "one".getBytes(UTF_8)).add("second", new byte[] {0, (byte) 0x80, (byte) 0xff});
        template.send(new ProducerRecord<>(task.topic(), 2, null, "before".getBytes(UTF_8))).get();
        template.send(full).get();
        template.send(new ProducerRecord<>(task.topic(), 2, "tombstone".getBytes(UTF_8), null)).get();
        template.send(new ProducerRecord<>(task.topic(), 2, "undecodable".getBytes(UTF_8), UNDECODABLE)).get();
        failOn(task, task.topic(), 4);
        failOn(task, deadLetters, 4);
    }

    /** Fails on what others have written; the dead letter topic exists. */
    static void fail(Task task) throws Exception {
        failOn(task, task.topic(), task.count());
    }

    private static void failOn(Task task, String topic, int count) throws Exception {
        KafkaMessageListenerContainer<byte[], byte[]> container = listen(task, topic);
        try {
            dump(task, topic + "-dlt", count);
        } finally {
            container.stop();
        }
    }

    private static KafkaTemplate<byte[], byte[]> template(Task task) {
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(task.producer()));
    }

    private static KafkaMessageListenerContainer<byte[], byte[]> listen(Task task, String topic) {
        ContainerProperties properties = new ContainerProperties(topic);
        properties.setGroupId(task.group("fail"));
        properties.setMessageListener((MessageListener<byte[], byte[]>) record -> {
            throw new IllegalStateException("no tea in stock", new IllegalArgumentException("sku: tée"));
        });
        Deserializer<byte[]> values = new ErrorHandlingDeserializer<>(new Picky());
        KafkaMessageListenerContainer<byte[], byte[]> container = new KafkaMessageListenerContainer<>(
                new DefaultKafkaConsumerFactory<>(task.consumer(task.group("fail")), null, values), properties);
        container.setCommonErrorHandler(new DefaultErrorHandler(
                new DeadLetterPublishingRecoverer(template(task)), new FixedBackOff(0, 0)));
        container.start();
        return container;
    }

    private static void dump(Task task, String topic, int count) throws Exception {
        Lines lines = new Lines(count);
        Map<String, Object> properties = new HashMap<>(task.consumer(task.group("dump")));
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        long end = System.nanoTime() + Duration.ofSeconds(task.seconds()).toNanos();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> all = consumer.partitionsFor(topic).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition())).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            while (lines.missing() > 0) {
                if (System.nanoTime() > end) {
                    throw lines.late(task);
                }
                consumer.poll(Duration.ofMillis(100)).forEach(record -> lines.print(Lines.describe(record)));
            }
        }
    }

    /** Refuses the one value that stands for bytes which are not in the expected format. */
    private static final class Picky implements Deserializer<byte[]> {
        @Override
        public byte[] deserialize(String topic, byte[] value) {
            if (Arrays.equals(value, UNDECODABLE)) {
                throw new IllegalArgumentException("not in the expected format");
            }
            return value;
        }
    }
}
