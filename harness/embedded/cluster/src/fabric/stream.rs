//! The two ends of a connection on the fabric: real loopback sockets that obey what is in force on their path.
//!
//! Everything happens at the dialling end, through which both directions of the bytes pass; the accepting end only
//! notices resets. Data under a delay or a hold is written by a task of its own, so that the writer goes on as it would
//! with a socket buffer.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSender;

use super::connection::{LiveConnection, flag};
use super::tap::Direction;

/// Bytes that may be on their way to a reader under delay, like a receive window.
const READ_WINDOW: usize = 1 << 20;
/// Pieces that may be on their way from a writer under delay or hold, like a send buffer.
const WRITE_WINDOW: usize = 64;
const PIECE: usize = 16 * 1024;

fn reset_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset on the network")
}

/// The end that opened the connection.
pub(crate) struct DialledStream {
    read: Option<OwnedReadHalf>,
    write: WriteSide,
    live: Arc<LiveConnection>,
    /// Data that has arrived and waits for its time; an empty piece is the end of the stream.
    arriving: VecDeque<(Instant, Bytes)>,
    arriving_bytes: usize,
    ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

enum WriteSide {
    Direct(OwnedWriteHalf),
    Posted(PollSender<(Instant, Bytes)>),
    Closed,
}

impl DialledStream {
    pub(crate) fn new(tcp: TcpStream, live: Arc<LiveConnection>) -> Self {
        let (read, write) = tcp.into_split();
        Self {
            read: Some(read),
            write: WriteSide::Direct(write),
            live,
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            ended: false,
            timer: None,
        }
    }

    /// Makes the end of the connection a reset for the other side too.
    fn break_off(&mut self) {
        if let Some(read) = self.read.take() {
            read.as_ref().set_zero_linger().ok();
        }
        if let WriteSide::Direct(write) = std::mem::replace(&mut self.write, WriteSide::Closed) {
            write.forget();
        }
    }

    /// Reads what is there into `arriving`. Pending or not does not matter: the caller's task is woken in any case.
    fn collect(&mut self, cx: &mut Context<'_>) {
        let mut piece = vec![0; PIECE];
        while !self.ended && self.arriving_bytes < READ_WINDOW {
            let mut buffer = ReadBuf::new(&mut piece);
            let Some(read) = &mut self.read else { return };
            let bytes = match Pin::new(read).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => Bytes::copy_from_slice(buffer.filled()),
                // An error ends the stream like its end; a reset by the peer needs no more ceremony under a delay.
                Poll::Ready(Err(_)) => Bytes::new(),
            };
            self.ended = bytes.is_empty();
            self.arriving_bytes += bytes.len();
            self.live.crossed(Direction::Backward, &bytes);
            self.arriving.push_back((self.live.due(Direction::Backward), bytes));
        }
    }

    fn deliver(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<()> {
        let Some((due, bytes)) = self.arriving.front_mut() else {
            return Poll::Pending;
        };
        if *due > Instant::now() {
            let due = *due;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
        }
        let count = bytes.len().min(out.remaining());
        out.put_slice(&bytes[..count]);
        if bytes.len() > count {
            bytes.advance(count);
        } else if count > 0 {
            self.arriving.pop_front();
        }
        // The empty piece at the end stays: every further read finds it again.
        self.arriving_bytes -= count;
        Poll::Ready(())
    }

    /// The channel to the task that writes, which is started when needed.
    fn post_office(&mut self) -> Option<&mut PollSender<(Instant, Bytes)>> {
        if matches!(self.write, WriteSide::Direct(_)) {
            let WriteSide::Direct(half) = std::mem::replace(&mut self.write, WriteSide::Closed) else {
                return None;
            };
            let (sender, receiver) = mpsc::channel(WRITE_WINDOW);
            tokio::spawn(post(half, receiver, Arc::clone(&self.live)));
            self.write = WriteSide::Posted(PollSender::new(sender));
        }
        match &mut self.write {
            WriteSide::Posted(sender) => Some(sender),
            WriteSide::Direct(_) | WriteSide::Closed => None,
        }
    }
}

/// Writes data when its time has come and nothing holds the path, then closes.
async fn post(mut half: OwnedWriteHalf, mut pieces: mpsc::Receiver<(Instant, Bytes)>, live: Arc<LiveConnection>) {
    loop {
        let piece = tokio::select! {
            biased;
            () = live.was_reset() => None,
            piece = pieces.recv() => Some(piece),
        };
        let due = match &piece {
            Some(Some((due, _))) => *due,
            Some(None) => live.due(Direction::Forward),
            None => return break_off(half),
        };
        if !live.passes(due).await {
            return break_off(half);
        }
        let Some(Some((_, bytes))) = piece else {
            half.shutdown().await.ok();
            return;
        };
        tokio::select! {
            biased;
            () = live.was_reset() => return break_off(half),
            written = half.write_all(&bytes) => if written.is_err() { return },
        }
        live.crossed(Direction::Forward, &bytes);
    }
}

fn break_off(half: OwnedWriteHalf) {
    half.as_ref().set_zero_linger().ok();
    half.forget();
}

impl AsyncRead for DialledStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        loop {
            let flags = me.live.flags();
            if flags & flag::RESET != 0 {
                me.break_off();
                return Poll::Ready(Err(reset_error()));
            }
            if flags & flag::HOLD == 0 {
                if flags & flag::DELAY == 0 && me.arriving.is_empty() {
                    let Some(read) = &mut me.read else {
                        return Poll::Ready(Err(reset_error()));
                    };
                    let before = out.filled().len();
                    if let Poll::Ready(result) = Pin::new(read).poll_read(cx, out) {
                        me.live.crossed(Direction::Backward, &out.filled()[before..]);
                        return Poll::Ready(result);
                    }
                } else {
                    me.collect(cx);
                    if me.deliver(cx, out).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            me.live.wakers.dialler_read.register(cx.waker());
            if me.live.flags() == flags {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for DialledStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        loop {
            let flags = me.live.flags();
            if flags & flag::RESET != 0 {
                me.break_off();
                return Poll::Ready(Err(reset_error()));
            }
            if let WriteSide::Direct(half) = &mut me.write
                && flags & (flag::HOLD | flag::DELAY) == 0
            {
                if let Poll::Ready(result) = Pin::new(half).poll_write(cx, data) {
                    if let Ok(count) = result {
                        me.live.crossed(Direction::Forward, &data[..count]);
                    }
                    return Poll::Ready(result);
                }
            } else {
                let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
                let live = Arc::clone(&me.live);
                let Some(office) = me.post_office() else {
                    return Poll::Ready(Err(gone()));
                };
                match office.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => {
                        let count = data.len().min(PIECE);
                        let piece = (live.due(Direction::Forward), Bytes::copy_from_slice(&data[..count]));
                        return Poll::Ready(office.send_item(piece).map(|()| count).map_err(|_| gone()));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(gone())),
                    Poll::Pending => {}
                }
            }
            me.live.wakers.dialler_write.register(cx.waker());
            if me.live.flags() == flags {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let flags = me.live.flags();
        if flags & flag::RESET != 0 {
            me.break_off();
            return Poll::Ready(Err(reset_error()));
        }
        if let WriteSide::Direct(half) = &mut me.write
            && flags & (flag::HOLD | flag::DELAY) == 0
        {
            return Pin::new(half).poll_shutdown(cx);
        }
        if let Some(office) = me.post_office() {
            office.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for DialledStream {
    fn drop(&mut self) {
        self.live.close();
        let flags = self.live.flags();
        if flags & flag::RESET != 0 {
            self.break_off();
            return;
        }
        // The farewell takes as long as any other data. Without a runtime there is nobody left to say it to.
        if flags & (flag::HOLD | flag::DELAY) != 0 && tokio::runtime::Handle::try_current().is_ok() {
            self.post_office();
        }
    }
}

/// The end that was connected to.
pub(crate) struct AcceptedStream {
    tcp: TcpStream,
    live: Arc<LiveConnection>,
}

impl AcceptedStream {
    pub(crate) fn new(tcp: TcpStream, live: Arc<LiveConnection>) -> Self {
        Self { tcp, live }
    }

    fn check(&self) -> io::Result<()> {
        if self.live.flags() & flag::RESET == 0 {
            return Ok(());
        }
        self.tcp.set_zero_linger().ok();
        Err(reset_error())
    }
}

impl Drop for AcceptedStream {
    fn drop(&mut self) {
        self.live.close();
    }
}

impl AsyncRead for AcceptedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.check()?;
        if let Poll::Ready(result) = Pin::new(&mut me.tcp).poll_read(cx, out) {
            return Poll::Ready(result);
        }
        me.live.wakers.acceptor_read.register(cx.waker());
        me.check()?;
        Poll::Pending
    }
}

impl AsyncWrite for AcceptedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        me.check()?;
        if let Poll::Ready(result) = Pin::new(&mut me.tcp).poll_write(cx, data) {
            return Poll::Ready(result);
        }
        me.live.wakers.acceptor_write.register(cx.waker());
        me.check()?;
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.check()?;
        Pin::new(&mut me.tcp).poll_shutdown(cx)
    }
}
