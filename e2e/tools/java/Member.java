import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * One member of a group. It tells as JSON lines what it owns, sees and commits; SIGTERM makes it leave.
 *
 * Arguments are key=value: bootstrap, group, topics or pattern, protocol, assignor, instance, session, heartbeat.
 */
public final class Member implements ConsumerRebalanceListener {
    private static final Duration POLL = Duration.ofMillis(100);
    private static final Map<String, String> ASSIGNORS = Map.of(
        "range", "org.apache.kafka.clients.consumer.RangeAssignor",
        "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
        "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
        "cooperative", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
    private volatile boolean stopping;

    private Member(Properties settings) {
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (String word : words) {
            int equals = word.indexOf('=');
            options.put(word.substring(0, equals), word.substring(equals + 1));
        }
        Member member = new Member(settings(options));
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            member.stopping = true;
            member.consumer.wakeup();
            try {
                closed.await(60, TimeUnit.SECONDS);
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
        try {
            member.run(options);
        } catch (Exception failure) {
            say("failed", "\"message\":" + quoted(failure.toString()));
        } finally {
            closed.countDown();
        }
    }

    private static Properties settings(Map<String, String> options) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        settings.put("group.id", options.get("group"));
        settings.put("client.id", options.getOrDefault("client", "java"));
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", "50");
        settings.put("fetch.max.wait.ms", "100");
        settings.put("metadata.max.age.ms", "2000");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("retry.backoff.max.ms", "500");
        if (options.containsKey("instance")) {
            settings.put("group.instance.id", options.get("instance"));
        }
        settings.put("group.protocol", options.getOrDefault("protocol", "classic"));
        if ("consumer".equals(options.get("protocol"))) {
            if (options.containsKey("assignor")) {
                settings.put("group.remote.assignor", options.get("assignor"));
            }
        } else {
            settings.put("session.timeout.ms", options.get("session"));
            settings.put("heartbeat.interval.ms", options.get("heartbeat"));
            settings.put("partition.assignment.strategy", ASSIGNORS.get(options.getOrDefault("assignor", "range")));
        }
        return settings;
    }

    private void run(Map<String, String> options) {
        if (options.containsKey("topics")) {
            consumer.subscribe(List.of(options.get("topics").split(",")), this);
        } else if ("consumer".equals(options.get("protocol"))) {
            consumer.subscribe(new SubscriptionPattern(options.get("pattern")), this);
        } else {
            consumer.subscribe(Pattern.compile(options.get("pattern")), this);
        }
        say("started", "\"pid\":" + ProcessHandle.current().pid());
        while (!stopping) {
            try {
                var records = consumer.poll(POLL);
                for (TopicPartition partition : records.partitions()) {
                    List<ConsumerRecord<byte[], byte[]>> seen = records.records(partition);
                    String offsets = seen.stream().map(record -> "" + record.offset()).collect(Collectors.joining(","));
                    say("records", "\"partition\":" + quoted(partition.toString()) + ",\"offsets\":[" + offsets + "]");
                    uncommitted.put(partition, records.nextOffsets().get(partition));
                }
                commit();
            } catch (WakeupException stop) {
                break;
            }
        }
        commit();
        consumer.close();
        say("closed", "\"clean\":true");
    }

    /** Commits what was processed. A rebalance in progress keeps it for the next turn or the revocation. */
    private void commit() {
        if (uncommitted.isEmpty()) {
            return;
        }
        while (true) {
            try {
                consumer.commitSync(uncommitted);
                String offsets = uncommitted.entrySet().stream()
                    .map(entry -> quoted(entry.getKey().toString()) + ":" + entry.getValue().offset())
                    .collect(Collectors.joining(","));
                say("committed", "\"offsets\":{" + offsets + "}");
                uncommitted.clear();
                return;
            } catch (WakeupException woken) {
                // The wakeup that asks to stop is for the poll; what was processed is committed all the same.
                continue;
            } catch (RebalanceInProgressException later) {
                return;
            } catch (CommitFailedException fenced) {
                say("fenced", "\"message\":" + quoted(fenced.toString()));
                uncommitted.clear();
                return;
            } catch (KafkaException failure) {
                say("trouble", "\"message\":" + quoted(failure.toString()));
                return;
            }
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        told("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit();
        told("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        partitions.forEach(uncommitted::remove);
        told("lost", partitions);
    }

    private void told(String event, Collection<TopicPartition> partitions) {
        var identity = consumer.groupMetadata();
        Map<String, Boolean> names = new TreeMap<>();
        partitions.forEach(partition -> names.put(quoted(partition.toString()), true));
        say(event, "\"partitions\":[" + String.join(",", names.keySet()) + "],\"generation\":" + identity.generationId()
            + ",\"member\":" + quoted(identity.memberId()));
    }

    private static synchronized void say(String event, String rest) {
        Instant now = Instant.now();
        long micros = now.getEpochSecond() * 1_000_000 + now.getNano() / 1000;
        System.out.println("{\"at\":" + micros + ",\"event\":\"" + event + "\"," + rest + "}");
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ").replace("\t", " ") + '"';
    }
}
