import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.ConsumerGroupPartitionAssignor;
import org.apache.kafka.coordinator.group.api.assignor.MemberAssignment;
import org.apache.kafka.coordinator.group.api.assignor.SubscribedTopicDescriber;
import org.apache.kafka.coordinator.group.api.assignor.SubscriptionType;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.GroupSpecImpl;
import org.apache.kafka.coordinator.group.modern.MemberSubscriptionAndAssignmentImpl;

/**
 * Answers scripts of groups with what Apache Kafka's own assignors say, unmodified. The scripts and
 * the answers are described in broker/coordinator/examples/assign/script.rs.
 *
 * Kafka's coordinator hands its assignors hash maps. Here they get members and topics in a fixed
 * order, that of their ids as bytes: one of the orders that a coordinator may have.
 */
public final class Oracle {
    private static final Comparator<String> AS_BYTES = (one, other) -> Arrays.compareUnsigned(
        one.getBytes(StandardCharsets.UTF_8), other.getBytes(StandardCharsets.UTF_8));

    private record Member(Optional<String> instanceId, Set<Uuid> topics) { }

    private static final Map<String, ConsumerGroupPartitionAssignor> ASSIGNORS = new HashMap<>();

    static {
        for (ConsumerGroupPartitionAssignor assignor : List.of(new UniformAssignor(), new RangeAssignor())) {
            ASSIGNORS.put(assignor.name(), assignor);
        }
    }

    private String group;
    private int round;
    private Map<String, Uuid> ids;
    private Map<Uuid, String> labels;
    private Map<Uuid, Integer> partitions;
    private TreeMap<String, Member> members;
    private Map<String, Assignment> targets;

    private void apply(String line, PrintStream out) {
        String[] words = line.split(" ");
        switch (words[0]) {
            case "group" -> {
                group = words[1];
                round = 0;
                ids = new HashMap<>();
                labels = new HashMap<>();
                partitions = new HashMap<>();
                members = new TreeMap<>(AS_BYTES);
                targets = new HashMap<>();
            }
            case "topic" -> {
                Uuid id = new Uuid(
                    Long.parseUnsignedLong(words[2].substring(0, 16), 16),
                    Long.parseUnsignedLong(words[2].substring(16), 16));
                ids.put(words[1], id);
                labels.put(id, words[1]);
                partitions.put(id, Integer.parseInt(words[3]));
            }
            case "member" -> {
                Set<Uuid> topics = new LinkedHashSet<>();
                if (!words[3].equals("-")) {
                    for (String label : new TreeSet<>(List.of(words[3].split(",")))) {
                        topics.add(ids.get(label));
                    }
                }
                Optional<String> instanceId = words[2].equals("-") ? Optional.empty() : Optional.of(words[2]);
                members.put(words[1], new Member(instanceId, topics));
            }
            case "leave" -> {
                members.remove(words[1]);
                targets.remove(words[1]);
            }
            case "replace" -> {
                members.put(words[2], members.remove(words[1]));
                Assignment target = targets.remove(words[1]);
                if (target != null) {
                    targets.put(words[2], target);
                }
            }
            case "assign" -> assign(words[1], SubscriptionType.valueOf(words[2].toUpperCase()), out);
            default -> throw new IllegalArgumentException(line);
        }
    }

    private void assign(String assignor, SubscriptionType type, PrintStream out) {
        Map<String, MemberSubscriptionAndAssignmentImpl> specs = new LinkedHashMap<>();
        Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
        members.forEach((id, member) -> {
            Assignment target = targets.getOrDefault(id, Assignment.EMPTY);
            specs.put(id, new MemberSubscriptionAndAssignmentImpl(
                Optional.empty(), member.instanceId(), member.topics(), target));
            target.partitions().forEach((topic, owned) -> owned.forEach(partition ->
                inverted.computeIfAbsent(topic, key -> new HashMap<>()).put(partition, id)));
        });

        Map<String, MemberAssignment> assigned = ASSIGNORS.get(assignor).assign(
            new GroupSpecImpl(Collections.unmodifiableMap(specs), type, inverted),
            new SubscribedTopicDescriber() {
                @Override
                public int numPartitions(Uuid topic) {
                    return partitions.getOrDefault(topic, -1);
                }

                @Override
                public Set<String> racksForPartition(Uuid topic, int partition) {
                    throw new UnsupportedOperationException("these assignors do not look at racks");
                }
            }).members();

        targets.clear();
        StringBuilder answer = new StringBuilder();
        for (String id : members.keySet()) {
            answer.append(group).append(' ').append(id);
            Map<String, Set<Integer>> byLabel = new TreeMap<>();
            if (assigned.containsKey(id)) {
                assigned.get(id).partitions().forEach((topic, owned) -> byLabel.put(labels.get(topic), new TreeSet<>(owned)));
            }
            Map<Uuid, Set<Integer>> target = new LinkedHashMap<>();
            byLabel.forEach((label, owned) -> {
                char separator = ':';
                answer.append(' ').append(label);
                for (int partition : owned) {
                    answer.append(separator).append(partition);
                    separator = ',';
                }
                target.put(ids.get(label), owned);
            });
            answer.append('\n');
            targets.put(id, new Assignment(target));
        }
        round++;
        answer.append(group).append(" done ").append(round).append('\n');
        out.print(answer);
    }

    public static void main(String[] arguments) throws IOException {
        Oracle oracle = new Oracle();
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            oracle.apply(line, out);
        }
        out.flush();
    }
}
