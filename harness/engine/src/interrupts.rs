//! How a user stops a run: once to end in good order, twice to end fast.

use tokio_util::sync::CancellationToken;

/// Interrupts of one run. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    stop: CancellationToken,
    hurry: CancellationToken,
}

impl Interrupts {
    /// Takes note of an interrupt. The first stops the scenarios, heals faults, cleans up and reports; the second only
    /// heals and stops. Returns which one it was; further ones change nothing.
    pub fn interrupt(&self) -> u32 {
        if !self.stop.is_cancelled() {
            self.stop.cancel();
            return 1;
        }
        self.hurry.cancel();
        2
    }

    /// Whether scenarios shall stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether nothing but healing shall be done any more.
    #[must_use]
    pub fn hurrying(&self) -> bool {
        self.hurry.is_cancelled()
    }

    /// Waits for the first interrupt.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits for the second interrupt.
    pub async fn hurried(&self) {
        self.hurry.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Interrupts;

    #[test]
    fn the_second_interrupt_is_another_one_than_the_first() {
        let interrupts = Interrupts::default();
        assert!(!interrupts.stopping());
        assert_eq!(interrupts.clone().interrupt(), 1);
        assert!(interrupts.stopping() && !interrupts.hurrying());
        assert_eq!(interrupts.interrupt(), 2);
        assert!(interrupts.hurrying());
        assert_eq!(interrupts.interrupt(), 2);
    }
}
