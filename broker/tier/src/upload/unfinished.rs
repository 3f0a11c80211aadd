//! A multipart upload that has begun. Dropped before its end it is aborted in the background: its
//! parts are billed, and no listing shows them.

use std::sync::Arc;

use object_store::MultipartUpload;
use object_store::path::Path;
use tracing::warn;

use crate::pool::Spawner;
use crate::remote::Remote;

pub(super) struct Unfinished {
    /// None after its end.
    upload: Option<Box<dyn MultipartUpload>>,
    path: Path,
    remote: Remote,
    spawner: Arc<dyn Spawner>,
}

impl Unfinished {
    pub(super) fn new(
        upload: Box<dyn MultipartUpload>,
        path: &Path,
        remote: &Remote,
        spawner: &Arc<dyn Spawner>,
    ) -> Unfinished {
        Unfinished {
            upload: Some(upload),
            path: path.clone(),
            remote: remote.clone(),
            spawner: Arc::clone(spawner),
        }
    }

    pub(super) fn handle(&mut self) -> &mut dyn MultipartUpload {
        let upload = self.upload.as_mut();
        &mut **upload.expect("only what ends it takes it, and owns it")
    }

    /// The store has completed it.
    pub(super) fn finished(mut self) {
        self.upload = None;
    }

    pub(super) async fn abort(mut self) {
        let Some(upload) = &mut self.upload else {
            return;
        };
        // It stays here while it waits: what fails, or is dropped, is tried once more.
        if self
            .remote
            .part(&self.path, 0, upload.abort())
            .await
            .is_ok()
        {
            self.upload = None;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        let (remote, path) = (self.remote.clone(), self.path.clone());
        self.spawner.spawn(Box::pin(async move {
            // The bucket's own rule for unfinished uploads removes what is left.
            if let Err(error) = remote.part(&path, 0, upload.abort()).await {
                warn!(%error, "an unfinished upload could not be aborted");
            }
        }));
    }
}
