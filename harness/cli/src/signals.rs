//! Signals that end a command in good order: an interrupt, a request to terminate, and a terminal that was closed.

use meshproof_engine::interrupts::Interrupts;

/// The signals, listened to from the moment in which this is made: none is lost between two calls of [`Signals::next`].
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Absent when whoever started the process wants it to outlive its terminal, as `nohup` does.
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = if hang_ups_are_ignored() {
            None
        } else {
            Some(signal(SignalKind::hangup())?)
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether the process was started with hang-ups ignored. Where the kernel does not tell, they are not.
#[cfg(unix)]
fn hang_ups_are_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status))
}

/// Whether the mask of ignored signals in a `/proc/<pid>/status` has SIGHUP, the first of all signals.
#[cfg(unix)]
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// The signals, as far as other systems have them.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Listens from the first [`Signals::next`] on.
    ///
    /// # Errors
    /// None here.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Turns the process's signals into the run's interrupts, the first and the second one: those that come after this has returned,
/// until the task is aborted.
pub fn listen(interrupts: Interrupts) -> tokio::task::JoinHandle<()> {
    // Not in the task, which a busy machine may begin when the run has long begun.
    let signals = Signals::listen();
    tokio::spawn(async move {
        let Ok(mut signals) = signals else { return };
        while !interrupts.hurrying() {
            signals.next().await;
            interrupts.interrupt();
        }
    })
}

/// Waits for one signal; for ever when the operating system does not let anybody listen.
pub async fn listen_once() {
    match Signals::listen() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::ignores_hang_up;

    #[test]
    fn what_nohup_starts_outlives_its_terminal() {
        assert!(ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"));
        assert!(!ignores_hang_up(""));
    }
}
