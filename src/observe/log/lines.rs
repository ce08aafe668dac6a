//! A bounded buffer between those who log and the file that is written to.

use std::{
    io::{self, Write},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait while the reader of the log is slow; some 15,000 access records.
const MAX_PENDING_BYTES: usize = 8 * 1024 * 1024;

/// How long the thread gathers lines before it writes them. Waking it costs whoever logs more than
/// the line itself, so it is woken once for all that come in this time.
const GATHERING: Duration = Duration::from_millis(5);

/// Lines that are written at once.
const GATHERED_BYTES: usize = 64 * 1024;

/// How long the end of the process waits for a reader that takes nothing.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// The buffer and the thread that empties it. Dropping it writes what is left.
pub struct Lines {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    /// The first line is there, or the last one.
    filled: Condvar,
    /// There are too many lines to wait for more.
    gathered: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    dropped: u64,
    closing: bool,
    ended: bool,
}

/// How many lines were dropped so far.
#[derive(Clone)]
pub struct Dropped(Arc<Queue>);

impl Dropped {
    /// Since the start of the process.
    pub fn total(&self) -> u64 {
        self.0.state.lock().dropped
    }
}

impl Lines {
    pub(super) fn start(file: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            gathered: Condvar::new(),
            ended: Condvar::new(),
        });
        let theirs = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("reprise-log".into())
            .spawn(move || theirs.write_all_to(file))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// The count of lines that found the buffer full.
    pub fn dropped(&self) -> Dropped {
        Dropped(Arc::clone(&self.queue))
    }

    pub(super) fn writer(&self) -> LineWriter {
        LineWriter(Arc::clone(&self.queue))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.closing = true;
        self.queue.filled.notify_one();
        self.queue.gathered.notify_one();
        if !state.ended {
            self.queue.ended.wait_for(&mut state, LAST_WRITE);
        }
        let ended = state.ended;
        drop(state);
        // A thread that hangs in a write cannot be joined: the process is about to end anyway.
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Takes a whole line, or drops it whole.
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.closing || state.pending.len() + line.len() > MAX_PENDING_BYTES {
            state.dropped += 1;
            return;
        }
        let before = state.pending.len();
        state.pending.extend_from_slice(line);
        let after = state.pending.len();
        drop(state);
        if before == 0 {
            self.filled.notify_one();
        }
        if (before..after).contains(&GATHERED_BYTES) {
            self.gathered.notify_one();
        }
    }

    fn write_all_to(&self, mut file: impl Write) {
        let mut batch = Vec::new();
        let mut reported = 0;
        loop {
            let mut state = self.state.lock();
            while state.pending.is_empty() && !state.closing {
                self.filled.wait(&mut state);
            }
            let till = Instant::now() + GATHERING;
            while !state.closing && state.pending.len() <= GATHERED_BYTES {
                if self.gathered.wait_until(&mut state, till).timed_out() {
                    break;
                }
            }
            if state.pending.is_empty() {
                state.ended = true;
                self.ended.notify_all();
                return;
            }
            std::mem::swap(&mut state.pending, &mut batch);
            let dropped = state.dropped - reported;
            reported = state.dropped;
            drop(state);
            // A log that cannot be written leaves nobody to tell.
            let _ = file.write_all(&batch).and_then(|()| file.flush());
            batch.clear();
            if dropped > 0 {
                tracing::warn!(
                    dropped,
                    "log lines were dropped: whoever reads the log is too slow"
                );
            }
        }
    }
}

/// Hands each line over to the thread.
#[derive(Clone)]
pub(super) struct LineWriter(Arc<Queue>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The formatter writes a line with one call.
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A file that shows what was written and can be held up.
    struct Slow {
        out: Arc<Mutex<Vec<u8>>>,
        gate: Option<mpsc::Receiver<()>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = &self.gate {
                // An error means that the gate was opened for good.
                let _ = gate.recv();
            }
            self.out.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropping_writes_everything_in_order() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Slow { out: Arc::clone(&out), gate: None }).unwrap();
        let mut writer = lines.writer();
        for number in 0..1000 {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(lines);
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(out.lock().clone()).unwrap(), expected);
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_never_time() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let (open, gate) = mpsc::channel();
        let lines = Lines::start(Slow { out: Arc::clone(&out), gate: Some(gate) }).unwrap();
        let mut writer = lines.writer();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..32 {
            writer.write_all(&line).unwrap();
        }
        // One batch may be in the thread's hands besides the full buffer.
        let dropped = lines.dropped().total();
        assert!((16..=24).contains(&dropped), "{dropped}");
        drop(open);
        drop(lines);
        assert_eq!(out.lock().len(), (32 - dropped as usize) * line.len());
    }
}
