//! S3, and stores that speak like it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::{OpenError, Options, Spoil};
use crate::remote::{PUT_DEADLINE, one_line};

/// A connection that is not made in this time is not coming.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn open(
    bucket: &str,
    prefix: &str,
    options: &Options,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let allow_http = options
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_DEADLINE)
        .with_timeout(PUT_DEADLINE);
    // Retrying is the callers' part: a PUT that is sent twice unseen could not be known to have ended.
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region.as_deref().unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(options.virtual_hosted)
        // The checksum's header is signed, so the payload need not be hashed a second time.
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_unsigned_payload(true)
        .with_client_options(client)
        .with_http_connector(Connector)
        .with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(allow_http);
    }
    if let (Some(key), Some(secret)) = (&options.access_key, &options.secret_key) {
        builder = builder
            .with_access_key_id(key)
            .with_secret_access_key(secret);
    }
    if let Some(token) = &options.session_token {
        builder = builder.with_token(token);
    }
    let store = builder
        .build()
        .map_err(|error| OpenError::Store(one_line(&error)))?;
    if prefix.is_empty() {
        return Ok(Arc::new(store));
    }
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

/// Connects as usual, and lets the start probe damage a request of its own.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { inner }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.extensions().get::<Spoil>().is_some() {
            // The same length, so that only its checksum tells.
            let length = request.body().content_length();
            *request.body_mut() = HttpRequestBody::from(vec![0xff; length]);
        }
        self.inner.execute(request).await
    }
}
