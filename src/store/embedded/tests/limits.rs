//! Queues, memory and disk are bounded, and what is over a bound is refused or makes room.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;

/// Starts `future` without waiting for it.
fn start<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_what_was_accepted_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(EmbeddedOptions { queue: 1, ..options(dir.path()) }).unwrap();
    let held = store.shared.shards.write();
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for seed in 0.. {
        let mut put = store.put(vec![record(seed)]);
        match start(&mut put) {
            Poll::Pending => puts.push(put),
            Poll::Ready(result) => {
                assert_eq!(result, Err(StoreFault::Busy));
                break;
            }
        }
    }
    loop {
        let mut get = store.get(EntryId(7));
        match start(&mut get) {
            Poll::Pending => gets.push(get),
            Poll::Ready(result) => {
                assert_eq!(result, Err(StoreFault::Busy));
                break;
            }
        }
    }
    drop(held);
    let written = puts.len() as u64;
    for put in puts {
        assert_eq!(put.await, Ok(()));
    }
    for get in gets {
        assert_eq!(get.await, Ok(None));
    }
    assert_eq!(store.count(Selector::All).await, Ok(written));
}

#[tokio::test]
async fn waiting_records_may_take_only_so_much_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = store.shared.shards.write();
    let large = |seed| Record { payload: vec![0; 30 << 20].into(), ..record(seed) };
    // A deletion does not collect puts behind it: they stay in the queue.
    let mut first = store.delete(Selector::All);
    assert!(start(&mut first).is_pending());
    let mut puts: Vec<_> = (0..3).map(|seed| store.put(vec![large(seed)])).collect();
    assert!(start(&mut puts[0]).is_pending());
    assert!(start(&mut puts[1]).is_pending());
    assert_eq!(start(&mut puts[2]), Poll::Ready(Err(StoreFault::Busy)));
    // Given up while it waits: neither written nor counted any more.
    drop(puts);
    drop(held);
    assert_eq!(first.await, Ok(0));
    assert_eq!(store.flush().await, Ok(()));
    assert_eq!(store.count(Selector::All).await, Ok(0));
    store.put(vec![large(4)]).await.unwrap();
}

#[tokio::test]
async fn over_the_quota_the_oldest_go_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let habits = Habits {
        flush_every: Duration::from_millis(100),
        journal_max_bytes: 8 << 20,
        compact_after: usize::MAX,
        max_bytes: 64 << 20,
    };
    let layout = Layout::new(DIMENSION, Quantization::None);
    let store = Embedded::open_with(&options(dir.path()), layout, habits).unwrap();
    let large = |seed: u64| {
        let noise = unit_vector(seed);
        let noise = noise.iter().flat_map(|number| number.to_le_bytes());
        let payload = noise.cycle().take(128 << 10).collect::<Vec<_>>();
        // No two bytes in a row repeat at a distance that LZ4 sees.
        let payload = payload.iter().enumerate().map(|(index, byte)| byte ^ (index >> 7) as u8);
        Record { payload: payload.collect::<Vec<_>>().into(), ..record(seed) }
    };
    let (mut seed, mut full, mut after) = (0, 0, 0);
    while after < 20 {
        match store.put(vec![large(seed)]).await {
            Ok(()) => {
                seed += 1;
                after += u64::from(full > 0);
            }
            Err(fault) => {
                assert!(matches!(fault, StoreFault::Full(_)), "{fault}");
                assert!(store.report().trouble.is_some());
                assert!(store.get(large(seed - 1).id).await.unwrap().is_some());
                full += 1;
                // Not to be right, but to leave the processor to the vacuum.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(store.report().trouble, None);
    assert_eq!(store.get(large(0).id).await, Ok(None));
    assert_stored(&store, &large(seed - 1)).await;
}
