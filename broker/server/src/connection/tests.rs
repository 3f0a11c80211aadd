use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use super::frames::FIRST_CHUNK_BYTES;
use super::*;

/// Echoes its frames; a frame that begins with `!` closes the connection, one that begins with
/// `?` waits for a permit first, `@` asks whether the peer is seen to do nothing but wait.
struct Echo(Arc<Semaphore>);

#[async_trait::async_trait]
impl Apply for Echo {
    async fn apply(&self, frame: Bytes, peer: &Peer) -> Reply {
        let frame = match (frame.as_ref(), peer.only_waits()) {
            (b"@", true) => Bytes::from_static(b"waits"),
            (b"@", false) => Bytes::from_static(b"sends on"),
            _ => frame,
        };
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

fn session(budget: usize, frame_bytes_max: usize) -> Session {
    session_within(FrameBudget::new(budget, frame_bytes_max))
}

#[expect(clippy::disallowed_methods, reason = "a test drives its own runtime")]
fn session_within(budget: FrameBudget) -> Session {
    let (client, server) = tokio::io::duplex(1 << 20);
    let gate = Arc::new(Semaphore::new(0));
    let stop = CancellationToken::new();
    let limits = Limits {
        budget,
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
async fn who_has_asked_before_it_was_answered_is_expected_to_again() {
    let mut session = session(1 << 20, 1 << 20);
    for _ in 0..3 {
        send(&mut session, b"@").await;
        assert_eq!(receive(&mut session).await, b"waits");
    }
    send(&mut session, b"?slow").await;
    send(&mut session, b"@").await;
    // Both were read by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    session.gate.add_permits(1);
    assert_eq!(receive(&mut session).await, b"?slow");
    assert_eq!(receive(&mut session).await, b"waits");
    send(&mut session, b"@").await;
    assert_eq!(receive(&mut session).await, b"sends on");
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
async fn a_stop_ends_a_connection_that_always_has_something_to_do() {
    let mut session = session(1 << 20, 1 << 20);
    // All of it is there before the connection is first served.
    let frames = b"\0\0\0\x04more".repeat(1000);
    session.client.write_all(&frames).await.unwrap();
    session.stop.cancel();
    let mut answered = Vec::new();
    session.client.read_to_end(&mut answered).await.unwrap();
    session.server.await.unwrap();
    assert!(answered.len() <= STOP_TURNS * (4 + b"more".len()));
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

/// A frame of so many bytes that waits at the gate.
fn gated(bytes: usize) -> Vec<u8> {
    let mut body = vec![b'x'; bytes];
    body[0] = b'?';
    body
}

#[tokio::test(start_paused = true)]
async fn small_frames_do_not_wait_behind_large_ones() {
    let budget = FrameBudget::new(1 << 20, 1 << 20);
    let large = gated(800_000);
    let mut served = session_within(budget.clone());
    send(&mut served, &large).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waits = session_within(budget.clone());
    send(&mut waits, &large).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut small = session_within(budget);
    for bytes in [1, 1000, FIRST_CHUNK_BYTES] {
        let body = vec![b'x'; bytes];
        send(&mut small, &body).await;
        let received = timeout(Duration::from_secs(1), receive(&mut small)).await;
        assert!(received.is_ok_and(|received| received == body), "{bytes}");
    }
    // And the large one comes to its turn.
    served.gate.add_permits(1);
    assert!(receive(&mut served).await == large);
    waits.gate.add_permits(1);
    assert!(receive(&mut waits).await == large);
}

#[tokio::test(start_paused = true)]
async fn large_frames_that_come_at_once_do_not_hold_one_another_up() {
    let budget = FrameBudget::new(1 << 20, 1 << 20);
    let body = vec![b'x'; 300_000];
    let mut sessions = Vec::new();
    for _ in 0..40 {
        let mut session = session_within(budget.clone());
        let length = (body.len() as i32).to_be_bytes();
        session.client.write_all(&length).await.unwrap();
        let first = &body[..FIRST_CHUNK_BYTES];
        session.client.write_all(first).await.unwrap();
        sessions.push(session);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for session in &mut sessions {
        let rest = &body[FIRST_CHUNK_BYTES..];
        session.client.write_all(rest).await.unwrap();
    }
    for session in &mut sessions {
        let received = timeout(Duration::from_secs(1), receive(session)).await;
        assert!(received.is_ok_and(|received| received == body));
    }
}

#[tokio::test(start_paused = true)]
async fn small_frames_may_take_what_large_ones_leave() {
    let budget = FrameBudget::new(1 << 20, 1 << 18);
    let mut sessions = Vec::new();
    // More than their own part: half a megabyte.
    for _ in 0..8 {
        let mut session = session_within(budget.clone());
        send(&mut session, &gated(FIRST_CHUNK_BYTES)).await;
        sessions.push(session);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut small = session_within(budget);
    send(&mut small, b"small").await;
    let received = timeout(Duration::from_secs(1), receive(&mut small)).await;
    assert!(received.is_ok_and(|received| received == b"small"));
}

/// Longer than any limit on a peer that is waited for.
const LONG: Duration = Duration::from_secs(500);

#[tokio::test(start_paused = true)]
async fn a_frame_is_not_late_while_the_broker_does_not_read() {
    let mut session = session(1 << 20, 1 << 20);
    // The last two bytes arrive together with what comes before them, and nothing is read while
    // all that waits.
    let mut sent = b"\0\0\0\x01?".repeat(REPLIES_IN_FLIGHT_MAX);
    sent.extend([0, 0]);
    session.client.write_all(&sent).await.unwrap();
    tokio::time::sleep(LONG).await;
    session.gate.add_permits(REPLIES_IN_FLIGHT_MAX);
    for _ in 0..REPLIES_IN_FLIGHT_MAX {
        assert_eq!(receive(&mut session).await, b"?");
    }
    session.client.write_all(b"\0\x04late").await.unwrap();
    assert_eq!(receive(&mut session).await, b"late");
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_not_late_while_it_waits_for_memory() {
    let budget = FrameBudget::new(1 << 20, 1 << 20);
    let large = gated(800_000);
    let mut served = session_within(budget.clone());
    send(&mut served, &large).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waits = session_within(budget);
    send(&mut waits, &large).await;
    tokio::time::sleep(2 * LONG).await;
    served.gate.add_permits(1);
    assert!(receive(&mut served).await == large);
    waits.gate.add_permits(1);
    assert!(receive(&mut waits).await == large);
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_queue_for_memory_outlasts_the_clock() {
    let budget = FrameBudget::new(1 << 20, 1 << 20);
    let large = gated(800_000);
    let mut served = session_within(budget.clone());
    send(&mut served, &large).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut first = session_within(budget.clone());
    send(&mut first, &large).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut second = session_within(budget);
    send(&mut second, &large).await;
    // The first one's timer has rung since, the second one's has not.
    tokio::time::sleep(Duration::from_secs(15)).await;
    served.gate.add_permits(1);
    assert!(receive(&mut served).await == large);
    first.gate.add_permits(1);
    let received = timeout(Duration::from_secs(1), receive(&mut first)).await;
    assert!(received.is_ok_and(|received| received == large));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waits_for_its_reply_is_not_idle() {
    let mut session = session(1 << 20, 1 << 20);
    send(&mut session, b"?slow").await;
    tokio::time::sleep(2 * LONG).await;
    session.gate.add_permits(1);
    assert_eq!(receive(&mut session).await, b"?slow");
    tokio::time::sleep(Duration::from_secs(60)).await;
    send(&mut session, b"next").await;
    assert_eq!(receive(&mut session).await, b"next");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_byte_by_byte_is_late_all_the_same() {
    let mut session = session(1 << 20, 1 << 20);
    session.client.write_all(&[0, 0, 1, 0]).await.unwrap();
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if session.client.write_all(b"x").await.is_err() {
            return;
        }
    }
    panic!("the connection is still open");
}
