//! One embedding thread: takes a batch, computes, answers, until the queue closes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::embed::{
    EmbedFault, Embedded,
    local::queue::{Job, Seat},
};

/// What a text is answered with.
pub(super) type Answer = Result<Embedded, EmbedFault>;

/// Serves the queue with `embed`, which answers a batch text by text.
///
/// A panic inside costs its batch ([`EmbedFault::Failed`]) and the model's state, which is not to be
/// trusted after it: `reopen` makes a new one. Where that fails the thread gives up its seat, and the
/// last to do so closes the queue.
pub(super) fn serve<Embed>(seat: &Seat, mut embed: Embed, mut reopen: impl FnMut() -> Option<Embed>)
where
    Embed: FnMut(&[Arc<str>]) -> Vec<Answer>,
{
    while let Some(batch) = seat.queue().next_batch() {
        let texts: Vec<Arc<str>> = batch.iter().map(|job| Arc::clone(&job.text)).collect();
        match catch_unwind(AssertUnwindSafe(|| embed(&texts))) {
            Ok(answers) => reply(batch, answers),
            Err(_) => {
                tracing::error!(texts = texts.len(), "embedding panicked, loading the model again");
                reply(batch, Vec::new());
                match catch_unwind(AssertUnwindSafe(&mut reopen)) {
                    Ok(Some(fresh)) => embed = fresh,
                    Ok(None) | Err(_) => return,
                }
            }
        }
    }
}

/// Gives each job its answer; those without one failed.
fn reply(batch: Vec<Job>, answers: Vec<Answer>) {
    let failures = std::iter::repeat_with(|| Err(EmbedFault::Failed));
    for (job, answer) in batch.into_iter().zip(answers.into_iter().chain(failures)) {
        job.answer(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::sync::oneshot::Receiver;

    use super::{Answer, Arc, EmbedFault, Embedded, serve};
    use crate::embed::local::queue::{
        Priority::{Background, Interactive},
        Queue,
    };

    /// Answers each text with a vector that holds its length, tells of each batch, and waits for a
    /// word before each; panics at "panic".
    struct Bench {
        queue: Arc<Queue>,
        batches: mpsc::Receiver<Vec<Arc<str>>>,
        go: mpsc::SyncSender<()>,
        thread: thread::JoinHandle<()>,
    }

    fn bench(capacity: usize, batch_max: usize, reopens: usize) -> Bench {
        bench_late(capacity, batch_max, reopens, Duration::MAX)
    }

    fn bench_late(capacity: usize, batch_max: usize, reopens: usize, late: Duration) -> Bench {
        let queue = Arc::new(Queue::new(capacity, batch_max, late));
        let (tell, batches) = mpsc::sync_channel(64);
        let (go, wait) = mpsc::sync_channel(64);
        let seat = queue.seat();
        let wait = Arc::new(parking_lot::Mutex::new(wait));
        let thread = thread::spawn(move || {
            let open = || {
                let (tell, wait) = (tell.clone(), Arc::clone(&wait));
                move |texts: &[Arc<str>]| -> Vec<Answer> {
                    tell.send(texts.to_vec()).unwrap();
                    wait.lock().recv().unwrap();
                    assert!(!texts.iter().any(|text| &**text == "panic"), "asked to");
                    let vector = |text: &Arc<str>| Arc::from(vec![text.len() as f32]);
                    texts.iter().map(|text| Ok(Embedded::Vector(vector(text)))).collect()
                }
            };
            let mut left = reopens;
            serve(&seat, open(), || {
                left = left.checked_sub(1)?;
                Some(open())
            });
        });
        Bench { queue, batches, go, thread }
    }

    impl Bench {
        fn push(&self, text: &str) -> Receiver<Answer> {
            self.queue.push(text.into(), Interactive).unwrap()
        }

        /// Occupies the thread, so that what is pushed next waits.
        fn occupy(&self) -> Receiver<Answer> {
            let first = self.push("first");
            assert_eq!(self.batches.recv().unwrap(), ["first".into()]);
            first
        }

        fn next_batch(&self) -> Vec<Arc<str>> {
            self.go.send(()).unwrap();
            self.batches.recv().unwrap()
        }

        fn end(self) {
            self.queue.close();
            self.go.send(()).ok();
            self.thread.join().unwrap();
            assert!(self.queue.wait_until_empty(Duration::ZERO));
        }
    }

    fn length(answered: Receiver<Answer>) -> f32 {
        match answered.blocking_recv().unwrap() {
            Ok(Embedded::Vector(vector)) => vector[0],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_waits_goes_together_up_to_the_batch_size() {
        let bench = bench(8, 3, 0);
        let first = bench.occupy();
        let waiting: Vec<_> = ["a", "bb", "ccc", "dddd"].map(|text| bench.push(text)).into();
        assert_eq!(bench.next_batch(), ["a".into(), "bb".into(), "ccc".into()]);
        assert_eq!(bench.next_batch(), ["dddd".into()]);
        bench.go.send(()).unwrap();
        assert_eq!(length(first), 5.0);
        assert_eq!(waiting.into_iter().map(length).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        bench.end();
    }

    #[test]
    fn texts_of_other_lengths_wait_for_their_turn_and_long_ones_go_alone() {
        let bench = bench(8, 8, 0);
        let first = bench.occupy();
        let (short, long) = ("s".repeat(40), "l".repeat(900));
        let waiting = [&long, &short, &long, &short].map(|text| bench.push(text));
        assert_eq!(bench.next_batch(), [long.as_str().into()]);
        let shorts: [Arc<str>; 2] = [short.as_str().into(), short.as_str().into()];
        assert_eq!(bench.next_batch(), shorts);
        assert_eq!(bench.next_batch(), [long.as_str().into()]);
        drop((first, waiting));
        bench.end();
    }

    #[test]
    fn a_full_queue_is_busy_at_once() {
        let bench = bench(2, 1, 0);
        let _first = bench.occupy();
        let _waiting = [bench.push("one"), bench.push("two")];
        assert_eq!(bench.queue.push("three".into(), Interactive).unwrap_err(), EmbedFault::Busy);
        assert_eq!(bench.queue.len(), 2);
        bench.end();
    }

    #[test]
    fn when_it_is_behind_the_newest_is_first_and_a_full_queue_gives_up_the_oldest() {
        let bench = bench_late(3, 2, 0, Duration::ZERO);
        let first = bench.occupy();
        let waiting = ["a", "bb", "ccc", "dddd"].map(|text| bench.push(text));
        let [oldest, older, newer, newest] = waiting;
        assert_eq!(oldest.blocking_recv().unwrap().unwrap_err(), EmbedFault::Busy);
        assert_eq!(bench.queue.len(), 3);
        assert_eq!(bench.next_batch(), ["dddd".into(), "ccc".into()]);
        assert_eq!(bench.next_batch(), ["bb".into()]);
        bench.go.send(()).unwrap();
        let lengths = [first, older, newer, newest].map(length);
        assert_eq!(lengths, [5.0, 2.0, 3.0, 4.0]);
        bench.end();
    }

    #[test]
    fn what_nobody_waits_for_goes_alone_and_after_what_somebody_waits_for() {
        let bench = bench(64, 8, 0);
        let first = bench.occupy();
        let behind = ["answer", "another"].map(|text| bench.queue.push(text.into(), Background));
        let one = bench.push("question");
        assert_eq!(bench.next_batch(), ["question".into()]);
        assert_eq!(bench.next_batch(), ["answer".into()]);
        let two = bench.push("next");
        assert_eq!(bench.queue.len(), 2);
        assert_eq!(bench.next_batch(), ["next".into()]);
        assert_eq!(bench.next_batch(), ["another".into()]);
        bench.go.send(()).unwrap();
        let lengths = [first, one, two].map(length);
        assert_eq!(lengths, [5.0, 8.0, 4.0]);
        assert_eq!(behind.map(|answered| length(answered.unwrap())), [6.0, 7.0]);
        bench.end();
    }

    #[test]
    fn questions_without_end_do_not_keep_the_others_waiting_for_ever() {
        let bench = bench(64, 1, 0);
        let first = bench.occupy();
        let behind = bench.queue.push("answer".into(), Background).unwrap();
        let questions: Vec<_> = (0..20).map(|_| bench.push("question")).collect();
        let batches: Vec<_> = (0..21).map(|_| bench.next_batch()).collect();
        bench.go.send(()).unwrap();
        let at = batches.iter().position(|batch| *batch == ["answer".into()]);
        assert_eq!(at, Some(8));
        assert_eq!(length(behind), 6.0);
        drop((first, questions));
        bench.end();
    }

    #[test]
    fn callers_that_left_neither_hold_a_place_nor_cost_work() {
        let bench = bench(2, 4, 0);
        let _first = bench.occupy();
        drop([bench.push("gone"), bench.push("gone too")]);
        let (stays, stays_too) = (bench.push("stays"), bench.push("stays too"));
        assert_eq!(bench.next_batch(), ["stays".into(), "stays too".into()]);
        drop(stays);
        bench.go.send(()).unwrap();
        assert_eq!(length(stays_too), 9.0);
        bench.end();
    }

    #[test]
    fn a_panic_costs_its_batch_and_nothing_else() {
        let bench = bench(8, 1, 1);
        let first = bench.occupy();
        let (bad, good) = (bench.push("panic"), bench.push("good"));
        bench.next_batch();
        assert_eq!(length(first), 5.0);
        assert_eq!(bench.next_batch(), ["good".into()]);
        assert_eq!(bad.blocking_recv().unwrap().unwrap_err(), EmbedFault::Failed);
        bench.go.send(()).unwrap();
        assert_eq!(length(good), 4.0);
        bench.end();
    }

    #[test]
    fn when_the_last_thread_is_gone_callers_are_told() {
        let bench = bench(8, 1, 0);
        let first = bench.occupy();
        let (bad, waiting) = (bench.push("panic"), bench.push("waiting"));
        bench.next_batch();
        bench.go.send(()).unwrap();
        assert_eq!(length(first), 5.0);
        assert_eq!(bad.blocking_recv().unwrap().unwrap_err(), EmbedFault::Failed);
        // Its sender is dropped with the queue's jobs; `Local` makes `Dead` of that.
        assert!(waiting.blocking_recv().is_err());
        assert_eq!(bench.queue.push("late".into(), Interactive).unwrap_err(), EmbedFault::Dead);
        bench.end();
    }
}
