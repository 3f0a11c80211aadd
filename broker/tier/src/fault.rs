//! An object store that fails on demand: for tests and simulation.
//!
//! Every way in which a store has been seen to fail: errors before and after the deed, requests that
//! never answer, a PUT that happens long after its caller gave up, truncated and flipped answers,
//! objects that are not there yet, listings of the past, slowness. Faults come from a script, one rule
//! at a time, or from rates under a seed; either way the same calls meet the same faults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::time::sleep;

/// What a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A PUT in one request.
    Put,
    /// The start of a multipart upload.
    Start,
    /// A part of one.
    Part,
    /// The end of one.
    Complete,
    /// The end of one that is given up.
    Abort,
    /// A GET.
    Get,
    /// A listing.
    List,
    /// A deletion.
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error; nothing happened.
    Fail,
    /// An error; it happened.
    FailAfter,
    /// No answer, ever; nothing happened.
    Hang,
    /// No answer, ever; it happened.
    HangAfter,
    /// An error; a PUT happens when [`FaultStore::release`] is called.
    Zombie,
    /// A GET's answer lacks its second half.
    Truncate,
    /// A GET's answer has one bit turned.
    Flip,
    /// A GET finds nothing.
    NotFound,
    /// A listing without the objects of this store's last so many PUTs.
    Stale(usize),
    /// The right answer, after so long.
    Slow(Duration),
}

/// When to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it meets.
    pub operation: Operation,
    /// Only paths that contain this; empty is all.
    pub path_contains: String,
    /// How many matching requests go well first.
    pub skip: usize,
    /// How many fail then.
    pub times: usize,
    /// How.
    pub fault: Fault,
}

impl Rule {
    /// The next request of a kind fails.
    #[must_use]
    pub fn next(operation: Operation, fault: Fault) -> Rule {
        Rule {
            operation,
            path_contains: String::new(),
            skip: 0,
            times: 1,
            fault,
        }
    }

    /// Only at paths that contain `part`.
    #[must_use]
    pub fn at(self, part: &str) -> Rule {
        Rule {
            path_contains: part.to_owned(),
            ..self
        }
    }

    /// After so many that go well.
    #[must_use]
    pub fn after(self, skip: usize) -> Rule {
        Rule { skip, ..self }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, times: usize) -> Rule {
        Rule { times, ..self }
    }

    fn matches(&self, operation: Operation, path: &Path) -> bool {
        self.operation == operation && path.as_ref().contains(&self.path_contains)
    }
}

/// Chances in a thousand, per request, under a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    /// The chance of each fault at each operation.
    pub permille: Vec<(Operation, Fault, u32)>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    rates: Rates,
    random: u64,
    zombies: Vec<(Path, PutPayload)>,
    recent_puts: Vec<Path>,
    counts: BTreeMap<Operation, usize>,
}

/// A store that fails on demand.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults in {}", self.inner)
    }
}

/// The store's own way of saying that it failed.
fn failure() -> object_store::Error {
    object_store::Error::Generic {
        store: "fault",
        source: "a fault was asked for".into(),
    }
}

impl FaultStore {
    /// A store that fails at nothing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> FaultStore {
        FaultStore {
            inner,
            state: Arc::default(),
        }
    }

    /// Adds a rule; of several that match, the first added counts.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Fails by chance from now on.
    pub fn set_rates(&self, rates: Rates, seed: u64) {
        let mut state = self.lock();
        state.rates = rates;
        // A generator of this kind must not start at zero.
        state.random = seed | 1;
    }

    /// Ends all faults; zombies stay.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.rates = Rates::default();
    }

    /// Lets the PUTs happen whose callers gave up; says how many there were.
    ///
    /// # Errors
    /// What the store below says.
    pub async fn release(&self) -> Result<usize> {
        let zombies = std::mem::take(&mut self.lock().zombies);
        let count = zombies.len();
        for (path, payload) in zombies {
            self.inner
                .put_opts(&path, payload, PutOptions::default())
                .await?;
        }
        Ok(count)
    }

    /// How many requests of a kind came, failed ones included.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.lock().counts.get(&operation).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, operation: Operation, path: &Path) -> Option<Fault> {
        let mut state = self.lock();
        *state.counts.entry(operation).or_insert(0) += 1;
        let matching = |rule: &&mut Rule| rule.times > 0 && rule.matches(operation, path);
        if let Some(rule) = state.rules.iter_mut().find(matching) {
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.times -= 1;
            return Some(rule.fault);
        }
        let rates = state.rates.clone();
        for (at, fault, permille) in rates.permille {
            if at == operation && state.draw() % 1000 < u64::from(permille) {
                return Some(fault);
            }
        }
        None
    }

    /// Fails, waits or goes on before the deed.
    async fn before(&self, fault: Option<Fault>) -> Result<()> {
        match fault {
            Some(Fault::Fail) => Err(failure()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(wait)) => {
                sleep(wait).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl State {
    /// The next number of the seed's sequence (xorshift).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Fails or waits after the deed.
async fn after(fault: Option<Fault>) -> Result<()> {
    match fault {
        Some(Fault::FailAfter) => Err(failure()),
        Some(Fault::HangAfter) => std::future::pending().await,
        _ => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.fault(Operation::Put, location);
        if fault == Some(Fault::Zombie) {
            self.lock().zombies.push((location.clone(), payload));
            return Err(failure());
        }
        self.before(fault).await?;
        let result = self.inner.put_opts(location, payload, options).await?;
        self.lock().recent_puts.push(location.clone());
        after(fault).await?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.fault(Operation::Start, location);
        self.before(fault).await?;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        after(fault).await?;
        Ok(Box::new(FaultUpload {
            store: self.clone(),
            location: location.clone(),
            inner,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.fault(Operation::Get, location);
        self.before(fault).await?;
        if fault == Some(Fault::NotFound) {
            let (path, source) = (location.to_string(), "a fault was asked for".into());
            return Err(object_store::Error::NotFound { path, source });
        }
        let result = self.inner.get_opts(location, options).await?;
        after(fault).await?;
        match fault {
            Some(Fault::Truncate) => damage(result, |bytes| bytes.truncate(bytes.len() / 2)).await,
            Some(Fault::Flip) => {
                let place = self.lock().draw_place();
                damage(result, |bytes| flip(bytes, place)).await
            }
            _ => Ok(result),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    let fault = store.fault(Operation::Delete, &location);
                    store.before(fault).await?;
                    let one = futures::stream::iter([Ok(location.clone())]).boxed();
                    let deleted = store.inner.delete_stream(one).try_collect::<Vec<_>>().await;
                    after(fault).await?;
                    deleted.map(|_| location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let fault = self.fault(Operation::List, prefix.unwrap_or(&Path::default()));
        let hidden = match fault {
            Some(Fault::Stale(count)) => {
                let state = self.lock();
                let first = state.recent_puts.len().saturating_sub(count);
                state.recent_puts.get(first..).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        };
        let store = self.clone();
        let listed = self.inner.list(prefix);
        let listed = listed.try_filter(move |meta| {
            let shown = !hidden.contains(&meta.location);
            async move { shown }
        });
        // The fault comes first: what it says stands before, or in place of, everything listed.
        let first = futures::stream::once(async move { store.before(fault).await });
        first
            .filter_map(|begun| async move { begun.err().map(Err) })
            .chain(listed)
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.fault(Operation::List, prefix.unwrap_or(&Path::default()));
        self.before(fault).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    store: FaultStore,
    location: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let fault = self.store.fault(Operation::Part, &self.location);
        let store = self.store.clone();
        let part = self.inner.put_part(payload);
        Box::pin(async move {
            store.before(fault).await?;
            part.await?;
            after(fault).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.fault(Operation::Complete, &self.location);
        self.store.before(fault).await?;
        let result = self.inner.complete().await?;
        self.store.lock().recent_puts.push(self.location.clone());
        after(fault).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        let fault = self.store.fault(Operation::Abort, &self.location);
        self.store.before(fault).await?;
        self.inner.abort().await?;
        after(fault).await
    }
}

impl State {
    fn draw_place(&mut self) -> u64 {
        if self.random == 0 {
            self.random = 1;
        }
        self.draw()
    }
}

/// The same answer with its bytes changed; it still claims the size that it had.
async fn damage(result: GetResult, change: impl FnOnce(&mut Vec<u8>)) -> Result<GetResult> {
    let (meta, range) = (result.meta.clone(), result.range.clone());
    let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
    let mut bytes = Vec::from(result.bytes().await?);
    change(&mut bytes);
    let payload = futures::stream::iter([Ok(Bytes::from(bytes))]).boxed();
    let payload = GetResultPayload::Stream(payload);
    Ok(GetResult {
        payload,
        meta,
        range,
        attributes,
        extensions,
    })
}

fn flip(bytes: &mut [u8], place: u64) {
    let bits = bytes.len() as u64 * 8;
    let Some(bit) = place.checked_rem(bits) else {
        return;
    };
    if let Some(byte) = usize::try_from(bit / 8)
        .ok()
        .and_then(|index| bytes.get_mut(index))
    {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests;
