//! Groups: classic ones, consumer groups (KIP-848), and the offsets that both commit.
