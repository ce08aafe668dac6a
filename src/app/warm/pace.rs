//! Not more questions a second than an upstream may be asked.

use std::{str::FromStr, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// How many in what time: `5/s`, `300/m`, `2/h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The time from one to the next.
    interval: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("a rate is a number in a time, such as 5/s or 300/m, not `{text}`");
        let (count, time) = text.split_once('/').ok_or_else(expected)?;
        let count: f64 = count.trim().parse().map_err(|_| expected())?;
        let seconds = match time.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(expected()),
        };
        let interval = Duration::try_from_secs_f64(seconds / count).map_err(|_| expected())?;
        Ok(Self { interval })
    }
}

/// Gives turns at an even pace.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<Rate>,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let Some(Rate { interval }) = self.rate else { return };
        let turn = {
            let mut next = self.next.lock();
            // Time in which nobody wanted a turn is not made up for.
            let turn = (*next).max(Instant::now());
            *next = turn + interval;
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let interval = |text: &str| text.parse::<Rate>().map(|rate| rate.interval.as_millis());
        assert_eq!(interval("4/s"), Ok(250));
        assert_eq!(interval("120 / m"), Ok(500));
        assert_eq!(interval("0.5/s"), Ok(2000));
        for wrong in ["", "5", "5/d", "x/s", "0/s", "-1/s", "nan/s"] {
            assert!(interval(wrong).unwrap_err().contains("5/s"), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_evenly_and_idle_time_is_no_credit() {
        let pace = Pace::new(Some("10/s".parse().unwrap()));
        let begun = Instant::now();
        for _ in 0..5 {
            pace.turn().await;
        }
        assert_eq!(begun.elapsed().as_millis(), 400);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        pace.turn().await;
        pace.turn().await;
        assert_eq!(begun.elapsed().as_millis(), 100);
    }
}
