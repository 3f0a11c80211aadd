// Makes the golden files of this folder with Apache Kafka's own classes:
//
//   java -cp "$ESKER_KAFKA_LIBS/*" Golden.java batches  > batches.txt
//   java -cp "$ESKER_KAFKA_LIBS/*" Golden.java verdicts > verdicts.txt
//   java -cp "$ESKER_KAFKA_LIBS/*" Golden.java read     < batches in hex, one a line
//
// batches.txt:  name hex
// verdicts.txt: name topic-timestamp-type compacted before-max after-max verdict hex
//   verdict: an error code's name with the refused indices, or OK with attributes and max timestamp

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;
import java.util.Scanner;
import java.util.stream.Collectors;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.CorruptRecordException;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.utils.BufferSupplier;
import org.apache.kafka.common.utils.PrimitiveRef;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.LogValidator;
import org.apache.kafka.storage.internals.log.RecordValidationException;

public class Golden {
    static final long NOW = 1_700_000_000_000L;
    static final int MAX_BYTES = 4096;
    static final Time CLOCK = (Time) java.lang.reflect.Proxy.newProxyInstance(Golden.class.getClassLoader(),
        new Class<?>[] {Time.class}, (proxy, method, args) -> method.getName().equals("milliseconds") ? NOW : 0L);

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "batches" -> batches();
            case "verdicts" -> verdicts();
            case "read" -> read();
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static byte[] bytes(MemoryRecords records) {
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        return bytes;
    }

    static MemoryRecordsBuilder builder(Compression codec, TimestampType type, long offset, long pid, short epoch, int sequence, boolean txn, boolean control, int leaderEpoch) {
        return MemoryRecords.builder(ByteBuffer.allocate(1 << 16), (byte) 2, codec, type, offset,
            type == TimestampType.LOG_APPEND_TIME ? NOW : -1L, pid, epoch, sequence, txn, control, leaderEpoch);
    }

    static byte[] three(Compression codec) {
        MemoryRecordsBuilder b = builder(codec, TimestampType.CREATE_TIME, 0, -1, (short) -1, -1, false, false, -1);
        b.append(NOW, "key".getBytes(), "value".getBytes(), new Header[] {
            new RecordHeader("h1", "one".getBytes()), new RecordHeader("", null), new RecordHeader("h1", new byte[0])});
        b.append(NOW - 1000, (byte[]) null, new byte[0]);
        b.append(NOW + 5, new byte[0], (byte[]) null);
        return bytes(b.build());
    }

    static byte[] many(Compression codec) {
        MemoryRecordsBuilder b = builder(codec, TimestampType.CREATE_TIME, 0, -1, (short) -1, -1, false, false, -1);
        for (int i = 0; i < 3000; i++)
            b.append(NOW + i, ("k" + i % 7).getBytes(), ("the value of this record is " + i).getBytes());
        return bytes(b.build());
    }

    static Compression[] codecs() {
        return new Compression[] {Compression.NONE, Compression.gzip().build(), Compression.snappy().build(),
            Compression.lz4().build(), Compression.zstd().build()};
    }

    static void print(String name, byte[] bytes) {
        System.out.println(name + " " + HexFormat.of().formatHex(bytes));
    }

    static void batches() {
        for (Compression codec : codecs()) {
            print("three-" + codec.type().name, three(codec));
            if (codec.type() != CompressionType.NONE) print("many-" + codec.type().name, many(codec));
        }
        MemoryRecordsBuilder b = builder(Compression.NONE, TimestampType.LOG_APPEND_TIME, 77, 4242, (short) 3, 2147483646, true, false, 5);
        for (int i = 0; i < 4; i++) b.append(-1L, ("k" + i).getBytes(), ("v" + i).getBytes());
        print("transactional", bytes(b.build()));
        print("commit", bytes(MemoryRecords.withEndTransactionMarker(1000L, NOW, 6, 4242L, (short) 3, new EndTransactionMarker(ControlRecordType.COMMIT, 9))));
        print("abort", bytes(MemoryRecords.withEndTransactionMarker(1001L, NOW, 6, 4242L, (short) 3, new EndTransactionMarker(ControlRecordType.ABORT, 9))));
    }

    static void fix(byte[] batch) {
        java.util.zip.CRC32C crc = new java.util.zip.CRC32C();
        crc.update(batch, 21, batch.length - 21);
        ByteBuffer.wrap(batch).putInt(17, (int) crc.getValue());
    }

    interface Edit { void apply(ByteBuffer batch); }

    static byte[] edit(byte[] batch, Edit edit) {
        byte[] copy = batch.clone();
        edit.apply(ByteBuffer.wrap(copy));
        fix(copy);
        return copy;
    }

    static byte[] join(byte[]... parts) {
        ByteBuffer all = ByteBuffer.allocate(Arrays.stream(parts).mapToInt(p -> p.length).sum());
        for (byte[] part : parts) all.put(part);
        return all.array();
    }

    static void verdicts() {
        byte[] base = three(Compression.NONE);
        judge("as-is", base);
        judge("empty", new byte[0]);
        for (int size : new int[] {5, 12, 16, 17, 60, 61, base.length - 1}) judge("cut-" + size, Arrays.copyOf(base, size));
        for (int extra : new int[] {1, 12, 16, 17, 60}) judge("tail-" + extra, join(base, Arrays.copyOf(base, extra)));
        judge("tail-garbage", join(base, new byte[20]));
        judge("two", join(base, base));
        for (int magic : new int[] {-1, 0, 1, 3}) judge("magic-" + magic, edit(base, b -> b.put(16, (byte) magic)));
        for (int length : new int[] {-1, 0, 13, 14, 48, 49}) judge("length-" + length, edit(base, b -> b.putInt(8, length)));
        judge("crc", join(Arrays.copyOf(base, base.length - 1), new byte[] {(byte) (base[base.length - 1] ^ 1)}));
        judge("base-offset", edit(base, b -> b.putLong(0, 1)));
        judge("base-offset-negative", edit(base, b -> b.putLong(0, -1)));
        for (int count : new int[] {-1, 0, 2, 4}) {
            judge("count-" + count, edit(base, b -> b.putInt(57, count)));
            judge("count-delta-" + count, edit(base, b -> b.putInt(57, count).putInt(23, count - 1)));
        }
        judge("delta-negative", edit(base, b -> b.putInt(23, -1)));
        judge("control", edit(base, b -> b.putShort(21, (short) 0x20)));
        judge("sequence", edit(base, b -> b.putLong(43, 7)));
        judge("sequence-set", edit(base, b -> b.putLong(43, 7).putInt(53, 0)));
        for (int codec = 1; codec < 8; codec++) { int c = codec; judge("codec-" + codec, edit(base, b -> b.putShort(21, (short) c))); }
        judge("unused-bits", edit(base, b -> b.putShort(21, (short) 0x7f80)));
        judge("delete-horizon", edit(base, b -> b.putShort(21, (short) 0x40)));
        judge("append-time-bit", edit(base, b -> b.putShort(21, (short) 8)));
        judge("append-time-bit-none", edit(base, b -> b.putShort(21, (short) 8).putLong(35, -1)));
        judge("max-wrong", edit(base, b -> b.putLong(35, 12345)));
        judge("max-far", edit(base, b -> b.putLong(35, NOW + 86_400_000_000L)));
        judge("base-none", edit(base, b -> b.putLong(27, -1)));
        judge("base-far", edit(base, b -> b.putLong(27, NOW + 86_400_000L)));
        judge("base-old", edit(base, b -> b.putLong(27, NOW - 86_400_000L).putLong(35, NOW - 86_400_000L)));
        judge("base-overflow", edit(base, b -> b.putLong(27, Long.MAX_VALUE)));
        MemoryRecordsBuilder large = builder(Compression.NONE, TimestampType.CREATE_TIME, 0, -1, (short) -1, -1, false, false, -1);
        large.append(NOW, new byte[] {1}, new byte[MAX_BYTES]);
        judge("large", bytes(large.build()));
        for (Compression codec : codecs()) {
            byte[] keyed = three(codec);
            judge("codec-" + codec.type().name, keyed);
            if (codec.type() != CompressionType.NONE)
                judge("damaged-" + codec.type().name, edit(keyed, b -> b.put(70, (byte) (b.get(70) ^ 0x55)).put(80, (byte) (b.get(80) ^ 0x55))));
        }
        Random random = new Random(4);
        for (int i = 0; i < 200; i++) {
            int at = 61 + random.nextInt(base.length - 61);
            byte value = (byte) (random.nextBoolean() ? base[at] ^ (1 << random.nextInt(8)) : random.nextInt());
            judge("payload-" + at + "-" + (value & 0xff), edit(base, b -> b.put(at, value)));
        }
    }

    static void judge(String name, byte[] bytes) {
        judge(name, TimestampType.CREATE_TIME, false, Long.MAX_VALUE, 3_600_000L, bytes);
        if (name.startsWith("payload-")) return;
        judge(name, TimestampType.CREATE_TIME, true, Long.MAX_VALUE, 3_600_000L, bytes);
        judge(name, TimestampType.LOG_APPEND_TIME, false, Long.MAX_VALUE, 3_600_000L, bytes);
        judge(name, TimestampType.CREATE_TIME, false, 500L, 1L, bytes);
    }

    static void judge(String name, TimestampType type, boolean compacted, long before, long after, byte[] bytes) {
        System.out.println(String.join(" ", name, type.name, "" + compacted, "" + before, "" + after,
            verdict(type, compacted, before, after, bytes.clone()), HexFormat.of().formatHex(bytes)).trim());
    }

    static String verdict(TimestampType type, boolean compacted, long before, long after, byte[] bytes) {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
        try {
            ProduceRequest.validateRecords((short) 11, records);
            // What the log itself looks at before it hands the batch to the validator.
            int valid = 0;
            CompressionType source = CompressionType.NONE;
            for (MutableRecordBatch batch : records.batches()) {
                if (batch.baseOffset() != 0) throw new InvalidRecordException("base offset");
                if (batch.sizeInBytes() > MAX_BYTES) return "MESSAGE_TOO_LARGE:";
                if (!batch.isValid()) throw new CorruptRecordException("crc");
                source = batch.compressionType();
                valid += batch.sizeInBytes();
            }
            MemoryRecords trimmed = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes, 0, valid).slice());
            Compression target = Compression.of(source).build();
            LogValidator.ValidationResult result = new LogValidator(trimmed, new TopicPartition("t", 0), CLOCK,
                source, target, compacted, (byte) 2, type, before, after, 0, AppendOrigin.CLIENT)
                .validateMessagesAndAssignOffsets(PrimitiveRef.ofLong(0), new Quiet(), BufferSupplier.NO_CACHING);
            RecordBatch out = result.validatedRecords().batches().iterator().next();
            ByteBuffer header = ((MemoryRecords) result.validatedRecords()).buffer();
            return "OK:" + header.getShort(header.position() + 21) + ":" + out.maxTimestamp();
        } catch (RecordValidationException e) {
            return Errors.forException(e.invalidException()).name() + ":" + e.recordErrors().stream()
                .map(r -> "" + r.batchIndex).collect(Collectors.joining(","));
        } catch (Throwable e) {
            return Errors.forException(e).name() + ":";
        }
    }

    static class Quiet implements LogValidator.MetricsRecorder {
        public void recordInvalidMagic() {}
        public void recordInvalidOffset() {}
        public void recordInvalidSequence() {}
        public void recordInvalidChecksums() {}
        public void recordNoKeyCompactedTopic() {}
    }

    static void read() {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(HexFormat.of().parseHex(lines.nextLine().trim())));
            for (MutableRecordBatch batch : records.batches()) {
                batch.ensureValid();
                long count = 0;
                int hash = 0;
                for (Record record : batch) {
                    count++;
                    hash = 31 * hash + record.toString().hashCode() + (record.hasValue() ? record.value().hashCode() : 0);
                }
                System.out.println(batch + " read " + count + " records, " + hash);
            }
        }
    }
}
