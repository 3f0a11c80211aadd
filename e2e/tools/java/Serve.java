import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Carries out requests in JSON from stdin with the Java client, one answer a line: {"ok": ...} or {"code": ..., "message": ...}. */
public final class Serve {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final int REQUEST_BYTES_MAX = 8 * 1024 * 1024;

    private final Map<String, Admin> admins = new HashMap<>();

    private Serve() {
    }

    public static void main(String[] words) throws Exception {
        Serve serve = new Serve();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                answer.put("ok", serve.carryOut(JSON.readTree(line)));
            } catch (Exception failure) {
                Throwable cause = failure instanceof ExecutionException ? failure.getCause() : failure;
                answer.put("code", Errors.forException(cause).code());
                answer.put("message", cause.toString());
            }
            System.out.println(JSON.writeValueAsString(answer));
        }
    }

    private Object carryOut(JsonNode request) throws Exception {
        String bootstrap = request.get("bootstrap").asText();
        switch (request.get("op").asText()) {
            case "write":
                return write(bootstrap, request);
            case "read":
                return read(bootstrap, request);
            default:
                return administer(admins.computeIfAbsent(bootstrap, to -> Admin.create(Map.of("bootstrap.servers", to))), request);
        }
    }

    private static Object write(String bootstrap, JsonNode request) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "linger.ms", "20", "max.request.size", REQUEST_BYTES_MAX,
            "compression.type", request.get("codec").asText());
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<?>> sent = new ArrayList<>();
            for (JsonNode record : request.get("records")) {
                List<Header> headers = new ArrayList<>();
                record.get("headers").forEach(pair -> headers.add(new RecordHeader(pair.get(0).asText(), bytes(pair.get(1)))));
                Long timestamp = record.get("timestamp").isNull() ? null : record.get("timestamp").asLong();
                sent.add(producer.send(new ProducerRecord<>(request.get("topic").asText(), request.get("partition").asInt(),
                    timestamp, bytes(record.get("key")), bytes(record.get("value")), headers)));
            }
            for (Future<?> each : sent) {
                each.get();
            }
            return sent.size();
        }
    }

    private static Object read(String bootstrap, JsonNode request) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none", "enable.auto.commit", "false");
        var where = new TopicPartition(request.get("topic").asText(), request.get("partition").asInt());
        int count = request.get("count").asInt();
        List<Object> got = new ArrayList<>();
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(where));
            consumer.seek(where, request.get("offset").asLong());
            while (got.size() < count) {
                var records = consumer.poll(PATIENCE);
                if (records.isEmpty()) {
                    throw new IllegalStateException("read " + got.size() + " of " + count + " records of " + where);
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    if (got.size() < count) {
                        got.add(shown(record));
                    }
                }
            }
        }
        return got;
    }

    private static Map<String, Object> shown(ConsumerRecord<byte[], byte[]> record) {
        Map<String, Object> fields = new HashMap<>();
        fields.put("offset", record.offset());
        fields.put("timestamp", record.timestamp());
        fields.put("key", record.key());
        fields.put("value", record.value());
        List<Object> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            Object[] pair = {header.key(), header.value()};
            headers.add(pair);
        }
        fields.put("headers", headers);
        return fields;
    }

    private static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static Object administer(Admin admin, JsonNode request) throws Exception {
        String topic = request.path("topic").asText();
        String group = request.path("group").asText();
        TopicPartition partition = new TopicPartition(topic, request.path("partition").asInt());
        ConfigResource.Type type = ConfigResource.Type.valueOf(request.path("type").asText("TOPIC"));
        ConfigResource resource = new ConfigResource(type, request.path("entity").asText(topic));
        switch (request.get("op").asText()) {
            case "create_topic":
                Map<String, String> config = new HashMap<>();
                request.get("config").fields().forEachRemaining(field -> config.put(field.getKey(), field.getValue().asText()));
                admin.createTopics(List.of(new NewTopic(topic, request.get("partitions").asInt(), (short) 1).configs(config))).all().get();
                return null;
            case "delete_topic":
                admin.deleteTopics(List.of(topic)).all().get();
                return null;
            case "topics":
                return new TreeSet<>(admin.listTopics().names().get());
            case "partitions":
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            case "create_partitions":
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(request.get("total").asInt()))).all().get();
                return null;
            case "alter_config":
                var entry = new ConfigEntry(request.get("name").asText(), request.get("value").asText());
                admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)))).all().get();
                return null;
            case "config":
                return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(request.get("name").asText()).value();
            case "delete_records":
                var before = RecordsToDelete.beforeOffset(request.get("before").asLong());
                return admin.deleteRecords(Map.of(partition, before)).lowWatermarks().get(partition).get().lowWatermark();
            case "offsets":
                long earliest = admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get().offset();
                long latest = admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get().offset();
                return List.of(earliest, latest);
            case "groups":
                Map<String, Object> groups = new TreeMap<>();
                admin.listGroups().all().get().forEach(each -> groups.put(each.groupId(),
                    List.of(each.type().map(Object::toString).orElse(""), each.groupState().map(Object::toString).orElse(""))));
                return groups;
            case "group":
                return described(admin, group);
            case "committed":
                Map<Integer, Long> committed = new TreeMap<>();
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((where, offset) -> {
                    if (where.topic().equals(topic)) {
                        committed.put(where.partition(), offset.offset());
                    }
                });
                return committed;
            case "commit":
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                request.get("offsets").fields().forEachRemaining(field -> offsets.put(
                    new TopicPartition(topic, Integer.parseInt(field.getKey())), new OffsetAndMetadata(field.getValue().asLong())));
                admin.alterConsumerGroupOffsets(group, offsets).all().get();
                return null;
            case "delete_offsets":
                Set<TopicPartition> gone = new HashSet<>();
                request.get("partitions").forEach(id -> gone.add(new TopicPartition(topic, id.asInt())));
                admin.deleteConsumerGroupOffsets(group, gone).all().get();
                return null;
            case "delete_group":
                admin.deleteConsumerGroups(List.of(group)).all().get();
                return null;
            default:
                throw new IllegalArgumentException("unknown request " + request);
        }
    }

    private static Object described(Admin admin, String group) throws Exception {
        var description = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Collection<String> assigned = new TreeSet<>();
        description.members().forEach(member -> member.assignment().topicPartitions().forEach(each -> assigned.add(each.toString())));
        Map<String, Object> fields = new HashMap<>();
        fields.put("state", description.groupState().toString());
        fields.put("members", description.members().size());
        fields.put("assigned", assigned);
        return fields;
    }
}
