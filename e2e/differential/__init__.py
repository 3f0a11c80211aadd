"""The same scripted requests to Apache Kafka and to Esker, and every field of the answers compared.

    codec      the wire format, from the message descriptors inside Kafka's own jar
    batches    record batches: built with any flaw, read back
    link       one connection
    script     what a case is written with: it asks one broker and keeps a transcript
    normal     what two brokers cannot share (ids, times, ports) becomes symbols
    allowed    the differences that are meant, each with its reason
    compare    two transcripts, field by field
    coverage   which versions and error codes were reached
    document   names in docs/compatibility.md the cases that compare each version
    servers    the two brokers
    cases/     the scripts
"""
