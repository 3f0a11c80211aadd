use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use super::*;

/// Echoes its frames; a frame that begins with `!` closes the connection, one that begins with
/// `?` waits for a permit first.
struct Echo(Arc<Semaphore>);

#[async_trait::async_trait]
impl Apply for Echo {
    async fn apply(&self, frame: Bytes, _: SocketAddr) -> Reply {
        let response = vec![
            Bytes::copy_from_slice(&(frame.len() as i32).to_be_bytes()),
            frame.clone(),
        ];
        match frame.first() {
            Some(b'!') => Reply::Close,
            Some(b'?') => {
                let gate = Arc::clone(&self.0);
                Reply::Later(Box::pin(async move {
                    gate.acquire().await.ok()?.forget();
                    Some(response.into())
                }))
            }
            _ => Reply::Now(response),
        }
    }
}

struct Session {
    client: tokio::io::DuplexStream,
    server: tokio::task::JoinHandle<()>,
    gate: Arc<Semaphore>,
    stop: CancellationToken,
}

#[expect(clippy::disallowed_methods, reason = "a test drives its own runtime")]
fn session(budget: usize, frame_bytes_max: usize) -> Session {
    let (client, server) = tokio::io::duplex(1 << 20);
    let gate = Arc::new(Semaphore::new(0));
    let stop = CancellationToken::new();
    let limits = Limits {
        budget: FrameBudget::new(budget, frame_bytes_max),
        idle: Duration::from_secs(600),
    };
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let apply: Arc<dyn Apply> = Arc::new(Echo(Arc::clone(&gate)));
    let server = tokio::spawn(serve(Box::new(server), peer, apply, limits, stop.clone()));
    Session {
        client,
        server,
        gate,
        stop,
    }
}

async fn send(session: &mut Session, body: &[u8]) {
    session
        .client
        .write_all(&(body.len() as i32).to_be_bytes())
        .await
        .unwrap();
    session.client.write_all(body).await.unwrap();
}

async fn receive(session: &mut Session) -> Vec<u8> {
    let mut length = [0; 4];
    session.client.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    session.client.read_exact(&mut body).await.unwrap();
    body
}

async fn is_closed(session: &mut Session) -> bool {
    let mut rest = Vec::new();
    matches!(session.client.read_to_end(&mut rest).await, Ok(0))
}

#[tokio::test(start_paused = true)]
async fn replies_leave_in_order_while_waiting_overlaps() {
    let mut session = session(1 << 20, 1 << 20);
    send(&mut session, b"?slow").await;
    send(&mut session, b"quick").await;
    session.gate.add_permits(1);
    assert_eq!(receive(&mut session).await, b"?slow");
    assert_eq!(receive(&mut session).await, b"quick");
}

#[tokio::test(start_paused = true)]
async fn frames_larger_than_the_first_chunk_arrive_whole() {
    let mut session = session(1 << 20, 1 << 20);
    let body: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    send(&mut session, &body).await;
    assert!(receive(&mut session).await == body);
}

#[tokio::test(start_paused = true)]
async fn an_oversize_or_negative_length_closes_the_connection() {
    for claimed in [1 << 20 | 1, i32::MAX, -1] {
        let mut session = session(1 << 20, 1 << 20);
        session
            .client
            .write_all(&i32::to_be_bytes(claimed))
            .await
            .unwrap();
        assert!(is_closed(&mut session).await, "{claimed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_and_a_silent_peer_are_closed() {
    let mut slow = session(1 << 20, 1 << 20);
    slow.client.write_all(&[0, 0, 1, 0, 7]).await.unwrap();
    assert!(is_closed(&mut slow).await);
    let mut silent = session(1 << 20, 1 << 20);
    assert!(is_closed(&mut silent).await);
}

#[tokio::test(start_paused = true)]
async fn close_comes_after_earlier_replies() {
    let mut session = session(1 << 20, 1 << 20);
    send(&mut session, b"first").await;
    send(&mut session, b"!").await;
    assert_eq!(receive(&mut session).await, b"first");
    assert!(is_closed(&mut session).await);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_applied_and_ends() {
    let mut session = session(1 << 20, 1 << 20);
    send(&mut session, b"?waits").await;
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    session.stop.cancel();
    session.gate.add_permits(1);
    assert_eq!(receive(&mut session).await, b"?waits");
    assert!(is_closed(&mut session).await);
    session.server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replies_that_wait_stop_the_reading_of_more() {
    let mut session = session(16 << 20, 1 << 20);
    send(&mut session, b"?waits").await;
    let body = vec![b'x'; READY_BYTES_MAX / 2];
    let mut sent = 0;
    while sent < 16
        && timeout(Duration::from_secs(1), send(&mut session, &body))
            .await
            .is_ok()
    {
        sent += 1;
    }
    // Two wait; what follows stays in the pipe.
    assert!((2..=4).contains(&sent), "{sent}");
    session.gate.add_permits(1);
    assert_eq!(receive(&mut session).await, b"?waits");
    for _ in 0..sent {
        assert!(receive(&mut session).await == body);
    }
}
