"""Scripts of random consumer groups, for the assignors; their form is in broker/coordinator/examples/assign/script.rs."""

import random

# A group of more topics subscribes to all of them whenever it is homogeneous: see `topic_ids`.
TOPICS_MAX = 16


def topic_ids(rng, count):
    """Random ids, ascending as bytes, that java.util.HashSet yields in that order too.

    Kafka puts the topics of a homogeneous group into a HashSet, whose order depends on the JDK: here the last 32
    bits make the hash code of each id its rank, and up to 16 such elements come out sorted on every JDK, as do more
    when their ranks have no gaps.
    """
    ids = []
    for rank, high in enumerate(sorted(rng.getrandbits(96) for _ in range(count))):
        words = [high >> 64, (high >> 32) & 0xFFFFFFFF, high & 0xFFFFFFFF]
        ids.append(f"{high:024x}{words[0] ^ words[1] ^ words[2] ^ rank:08x}")
    return ids


class Group:
    """One group that lives for a few rounds, as lines of a script."""

    def __init__(self, name, seed, small=False):
        self.rng = rng = random.Random(f"{seed}-{name}")
        self.lines = [f"group {name}"]
        # Sizes are spread over magnitudes: most groups are small, where ties and edges are.
        self.members_max = rng.choice([1, 2, 3, 5, 8] if small else [1, 2, 3, 4, 6, 8, 12, 12, 20, 60])
        self.partitions_max = rng.choice([1, 3, 8] if small else [1, 2, 4, 8, 16, 40])
        self.wide = not small and rng.random() < 0.03
        topics = rng.randint(TOPICS_MAX + 1, 60) if self.wide else rng.randint(1, rng.choice([2, 4, TOPICS_MAX]))
        self.unborn = [(f"t{rank:02}", topic) for rank, topic in enumerate(topic_ids(rng, topics))]
        rng.shuffle(self.unborn)
        self.topics = {}
        self.members = {}
        self.names = 0
        self.static = rng.choice([0, 0, 0.5, 1])
        self.style = rng.choice(["homogeneous", "homogeneous", "random", "classes", "nested"])
        self.shared = None
        self.classes = None

    def script(self):
        rng = self.rng
        for _ in range(len(self.unborn) if self.wide else rng.randint(1, len(self.unborn))):
            self.create()
        for _ in range(rng.randint(1, self.members_max)):
            self.join()
        assignor = rng.choice(["uniform", "uniform", "range"])
        self.assign(assignor)
        for _ in range(rng.randint(0, 6)):
            for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
                rng.choice([self.create, self.grow, self.join, self.join, self.leave, self.leave, self.change, self.replace])()
            if rng.random() < 0.1:
                assignor = rng.choice(["uniform", "range"])
            self.assign(assignor)
        return "".join(line + "\n" for line in self.lines)

    def create(self):
        if self.unborn:
            label, topic = self.unborn.pop()
            self.topics[label] = topic, self.rng.randint(1, self.partitions_max)
            self.topic(label)

    def grow(self):
        label = self.rng.choice(sorted(self.topics))
        topic, partitions = self.topics[label]
        self.topics[label] = topic, partitions + self.rng.randint(1, self.partitions_max)
        self.topic(label)

    def topic(self, label):
        topic, partitions = self.topics[label]
        self.lines.append(f"topic {label} {topic} {partitions}")

    def join(self):
        rng = self.rng
        self.names += 1
        # Java and UTF-8 sort the last two in different orders.
        prefix = rng.choice(["", "", "consumer-", "Zoë-", "\U0001f980-", "\uff21-"])
        member = f"{prefix}{rng.randrange(1 << 32):08x}"
        static = rng.random() < self.static
        instance = f"{rng.choice(['', '', prefix])}host-{self.names}" if static else "-"
        self.members[member] = instance, self.subscription()
        self.member(member)

    def leave(self):
        if len(self.members) > 1:
            member = self.rng.choice(sorted(self.members))
            del self.members[member]
            self.lines.append(f"leave {member}")

    def change(self):
        member = self.rng.choice(sorted(self.members))
        if self.style == "homogeneous":
            # All change, one after the other.
            self.shared = None
            changed = sorted(self.members)
        else:
            changed = [member]
        for member in changed:
            self.members[member] = self.members[member][0], self.subscription()
            self.member(member)

    def replace(self):
        """A static member comes back under another id."""
        static = sorted(member for member, (instance, _) in self.members.items() if instance != "-")
        if static:
            old = self.rng.choice(static)
            new = f"again-{self.rng.randrange(1 << 32):08x}"
            self.members[new] = self.members.pop(old)
            self.lines.append(f"replace {old} {new}")

    def member(self, member):
        instance, topics = self.members[member]
        self.lines.append(f"member {member} {instance} {','.join(sorted(topics)) or '-'}")

    def some(self):
        return frozenset(self.rng.sample(sorted(self.topics), self.rng.randint(0, len(self.topics))))

    def subscription(self):
        rng = self.rng
        if self.style == "homogeneous":
            if self.shared is None:
                self.shared = frozenset(self.topics) if self.wide else self.some()
            return self.shared
        if self.style == "random":
            return self.some()
        if self.style == "nested":
            return frozenset(sorted(self.topics)[: rng.randint(0, len(self.topics))])
        if self.classes is None:
            self.classes = [self.some() for _ in range(rng.randint(1, 4))]
        return rng.choice(self.classes)

    def assign(self, assignor):
        subscriptions = {topics for _, topics in self.members.values()}
        # Kafka compares names: with some that do not exist, a group counts as heterogeneous though it is not.
        # Wide groups are homogeneous only with all topics.
        same = len(subscriptions) == 1 and self.rng.random() < 0.9
        if self.wide:
            same = same and subscriptions == {frozenset(self.topics)}
        self.lines.append(f"assign {assignor} {'homogeneous' if same else 'heterogeneous'}")


def scripts(seed, names, small=False):
    return [Group(name, seed, small).script() for name in names]
