//! One connection through a relay, from its acceptance to its end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::protocol::Forward;
use super::state::{Fate, Live, State, up_to};
use super::tap::{Direction, Reader};

/// Largest piece of data that is forwarded at once, in bytes.
const PIECE: usize = 16 * 1024;
/// Pieces that may be on their way in one direction, like a send buffer.
const WINDOW: usize = 64;
/// How long the target may take to accept.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Carries a client's connection to its target and back until both directions have ended or the connection is broken.
pub(crate) async fn carry(state: Arc<State>, mut client: TcpStream, forward: &Forward) {
    let live = state.opened();
    let opened = tokio::select! {
        biased;
        () = live.was_reset() => None,
        opened = open(&state, forward) => opened,
    };
    let Some(mut target) = opened else {
        return break_off(client);
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_target, to_target) = target.split();
        let there = pump(
            &state,
            Reader::new(live.id, Direction::ToTarget),
            from_client,
            to_target,
        );
        let back = pump(
            &state,
            Reader::new(live.id, Direction::ToClient),
            from_target,
            to_client,
        );
        tokio::select! {
            biased;
            fate = live.struck() => fate,
            both = async { tokio::try_join!(there, back) } => match both {
                Ok(_) => Fate::Open,
                Err(_) => Fate::Reset,
            },
        }
    };
    match ended {
        // Both directions came to their end; closing what is left of the sockets tells nobody anything new.
        Fate::Open => {}
        Fate::Reset => {
            break_off(client);
            break_off(target);
        }
        Fate::HalfOpen(_) => {
            break_off(target);
            swallow(&state, &live, client).await;
        }
    }
}

/// Connects to the target, after what holds new connections back.
async fn open(state: &State, forward: &Forward) -> Option<TcpStream> {
    let effects = *state.effects().borrow();
    // A handshake crosses twice before data can follow it.
    tokio::time::sleep(effects.delay * 2 + up_to(effects.jitter)).await;
    state.passable().await;
    match timeout(
        CONNECT_TIME,
        TcpStream::connect((forward.host.as_str(), forward.to_port)),
    )
    .await
    {
        Ok(Ok(target)) => {
            // Pieces are to arrive as they were sent. A connection that is gone already shows when it is read.
            let _ = target.set_nodelay(true);
            Some(target)
        }
        Ok(Err(_)) | Err(_) => {
            state.unreachable();
            None
        }
    }
}

/// Something on its way.
enum Piece {
    Bytes(Bytes),
    /// The sender has closed its side.
    End,
    /// The sender has reset the connection.
    Broken,
}

/// Forwards one direction. What was taken in is forwarded in order, when it is due and nothing holds it; so the end of a
/// connection can't overtake its data, nor come through a blackhole.
///
/// # Errors
/// When either side is broken.
async fn pump<R, W>(state: &State, mut reader: Reader, mut from: R, mut to: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, mut receiver) = mpsc::channel::<(Instant, Piece)>(WINDOW);
    let reading = async {
        let mut buffer = BytesMut::new();
        let mut last_due = Instant::now();
        loop {
            buffer.reserve(PIECE);
            let piece = match (&mut from).take(PIECE as u64).read_buf(&mut buffer).await {
                Ok(0) => Piece::End,
                Ok(_) => Piece::Bytes(buffer.split().freeze()),
                Err(_) => Piece::Broken,
            };
            let last = match &piece {
                Piece::Bytes(bytes) => {
                    state.tap.crossed(&mut reader, bytes);
                    false
                }
                Piece::End | Piece::Broken => true,
            };
            last_due = state.due().max(last_due);
            if sender.send((last_due, piece)).await.is_err() || last {
                break;
            }
        }
        pending::<Infallible>().await
    };
    let writing = async {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            state.passable().await;
            match piece {
                Piece::Bytes(bytes) => to.write_all(&bytes).await?,
                Piece::End => return to.shutdown().await,
                Piece::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        written = writing => written,
        never = reading => match never {},
    }
}

/// Takes in what the client of a forgotten connection sends, until it closes or learns that it was forgotten.
async fn swallow(state: &State, live: &Live, mut client: TcpStream) {
    let mut reader = Reader::new(live.id, Direction::ToTarget);
    let mut buffer = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            biased;
            () = live.was_reset() => return break_off(client),
            read = client.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => state.tap.crossed(&mut reader, &buffer[..count]),
        }
    }
    // Its end vanishes as well: it would wait for an answer.
    live.was_reset().await;
    break_off(client);
}

/// Ends a connection so that the other side gets a reset.
fn break_off(stream: TcpStream) {
    // Of a connection that is gone already nobody needs to be told.
    let _ = stream.set_zero_linger();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::protocol::{Fault, LIFETIME};
    use proptest::prelude::{any, prop, prop_assert, proptest};
    use tokio::io::duplex;

    /// Both ends of one direction through a relay, on a paused clock without sockets.
    async fn pumped<F: Future<Output = ()>>(
        state: &State,
        script: impl FnOnce(tokio::io::DuplexStream, tokio::io::DuplexStream) -> F,
    ) {
        let (client, from) = duplex(1 << 20);
        let (to, target) = duplex(1 << 20);
        let reader = Reader::new(1, Direction::ToTarget);
        tokio::select! {
            () = script(client, target) => {}
            _ = async { pump(state, reader, from, to).await.ok(); pending::<()>().await } => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_holds_every_byte_back_and_keeps_the_order() {
        let state = State::new(Vec::new(), LIFETIME);
        let fault = Fault::Delay {
            each_way_us: 200_000,
            jitter_us: 50_000,
        };
        let id = state.impose(fault).unwrap();
        pumped(&state, async |mut client, mut target| {
            let began = Instant::now();
            let mut text = String::new();
            for word in ["one ", "two ", "three "] {
                client.write_all(word.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Healed: what was under way comes when it is due, and nothing overtakes it.
            state.heal(id);
            client.write_all(b"four").await.unwrap();
            client.shutdown().await.unwrap();
            let mut first = [0; 4];
            target.read_exact(&mut first).await.unwrap();
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(200) && took <= Duration::from_millis(251),
                "{took:?}"
            );
            target.read_to_string(&mut text).await.unwrap();
            assert_eq!((&first, text.as_str()), (b"one ", "two three four"));
            assert!(began.elapsed() <= Duration::from_millis(260), "{:?}", began.elapsed());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_blackhole_lets_neither_data_nor_ends_through_and_loses_nothing() {
        let state = State::new(Vec::new(), LIFETIME);
        let id = state.impose(Fault::Blackhole).unwrap();
        pumped(&state, async |mut client, mut target| {
            client.write_all(b"held").await.unwrap();
            drop(client);
            let mut text = String::new();
            let silent = timeout(Duration::from_secs(3600), target.read_to_string(&mut text)).await;
            assert!(silent.is_err(), "{text}");
            state.heal(id);
            target.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "held");
        })
        .await;
        assert_eq!(state.tap.bytes(), (4, 0));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..8),
            jitter_us in 0u64..2000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let state = State::new(Vec::new(), LIFETIME);
                state.impose(Fault::Delay { each_way_us: 0, jitter_us }).unwrap();
                let sent = pieces.concat();
                let mut received = Vec::new();
                pumped(&state, async |mut client, mut target| {
                    let sending = async {
                        for piece in &pieces {
                            client.write_all(piece).await.unwrap();
                            tokio::time::sleep(Duration::from_micros(300)).await;
                        }
                        client.shutdown().await.unwrap();
                    };
                    let (_, read) = tokio::join!(sending, target.read_to_end(&mut received));
                    read.unwrap();
                }).await;
                prop_assert!(received == sent);
                Ok(())
            })?;
        }
    }
}
