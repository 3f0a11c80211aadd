use bytes::{Bytes, BytesMut};

/// The bytes of a `records` field: record batches, which this crate moves but does not copy.
///
/// Two blobs are equal when their bytes are, whoever holds them.
#[derive(Debug, Clone)]
pub enum Blob<'a> {
    /// A part of the frame that was decoded. Its owner gets a shared handle, without a copy, from
    /// [`Bytes::slice_ref`] on the frame.
    Borrowed(&'a [u8]),
    /// One piece, written as a chunk of its own when it is large.
    Shared(Bytes),
    /// Several pieces that follow each other.
    Chunks(Vec<Bytes>),
}

impl Blob<'_> {
    /// The size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces().all(<[u8]>::is_empty)
    }

    /// The bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many): (&[u8], &[Bytes]) = match self {
            Blob::Borrowed(bytes) => (bytes, &[]),
            Blob::Shared(bytes) => (bytes, &[]),
            Blob::Chunks(chunks) => (&[], chunks),
        };
        std::iter::once(one).chain(many.iter().map(Bytes::as_ref))
    }

    /// All bytes in one piece: copied, unless they are shared already.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Blob::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Blob::Shared(bytes) => bytes.clone(),
            Blob::Chunks(chunks) => match chunks.as_slice() {
                [one] => one.clone(),
                _ => {
                    let mut all = BytesMut::with_capacity(self.len());
                    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
                    all.freeze()
                }
            },
        }
    }
}

impl PartialEq for Blob<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().flatten().eq(other.pieces().flatten())
    }
}

impl Eq for Blob<'_> {}

impl<'a> From<&'a [u8]> for Blob<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Blob::Borrowed(bytes)
    }
}

impl From<Bytes> for Blob<'_> {
    fn from(bytes: Bytes) -> Self {
        Blob::Shared(bytes)
    }
}

impl From<Vec<Bytes>> for Blob<'_> {
    fn from(chunks: Vec<Bytes>) -> Self {
        Blob::Chunks(chunks)
    }
}

impl Default for Blob<'_> {
    fn default() -> Self {
        Blob::Borrowed(&[])
    }
}
