//! Killed at any moment: what was acknowledged is there again.

use std::{
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use super::*;

/// The child of the next test: writes and deletes until it is killed, and says what was acknowledged.
#[tokio::test]
async fn writer_that_gets_killed() {
    let (Ok(path), Ok(round)) = (std::env::var(CHILD_PATH), std::env::var(CHILD_ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let store = open_restless(Path::new(&path), 60);
    let mut said = std::io::stdout().lock();
    for index in 0.. {
        let seed = round * 1_000_000 + index * 2;
        store.put(vec![record(seed), record(seed + 1)]).await.unwrap();
        writeln!(said, "\nput {seed}").unwrap();
        if index % 7 == 6 {
            store.delete(Selector::Answer(record(seed - 4).id)).await.unwrap();
            writeln!(said, "\ngone {}", seed - 4).unwrap();
        }
    }
}

const CHILD_PATH: &str = "REPRISE_TEST_STORE_PATH";
const CHILD_ROUND: &str = "REPRISE_TEST_STORE_ROUND";

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    // How many acknowledgements the killer waits for: short and long lives, over the same files.
    for (round, acknowledged) in lives().into_iter().enumerate() {
        let mut child = spawn_writer(dir.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while let Some(Ok(line)) = lines.next() {
            match line.split_once(' ').map(|(what, seed)| (what, seed.parse::<u64>())) {
                Some(("put", Ok(seed))) => put.extend([seed, seed + 1]),
                Some(("gone", Ok(seed))) => gone.push(seed),
                _ => continue,
            }
            heard += 1;
            if heard == acknowledged {
                // SIGKILL; what it had still said by then is read on.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= acknowledged, "the writer ended by itself after {heard}");
        check_survivors(dir.path(), &put, &gone).await;
    }
}

/// `REPRISE_TEST_KILLS=50` for more of them.
fn lives() -> Vec<usize> {
    match std::env::var("REPRISE_TEST_KILLS") {
        Ok(kills) => {
            (0..kills.parse().unwrap()).map(|kill: usize| 1 + kill * 7_919 % 400).collect()
        }
        Err(_) => vec![3, 40, 1, 250, 17, 400, 90],
    }
}

fn spawn_writer(path: &Path, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::embedded::tests::crash::writer_that_gets_killed", "--exact", "--nocapture"])
        .env(CHILD_PATH, path)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn check_survivors(path: &Path, put: &[u64], gone: &[u64]) {
    let store = open_restless(path, usize::MAX);
    assert_eq!(store.report().trouble, None);
    for seed in put {
        let stored = store.get(record(*seed).id).await.unwrap();
        let nearest = store.nearest(record(*seed).partition, unit_vector(*seed), 2).await.unwrap();
        let nearest: Vec<_> = nearest.iter().map(|near| near.id).collect();
        if gone.contains(seed) {
            assert_eq!((stored, nearest), (None, vec![]), "{seed} came back");
        } else {
            // A deletion may have been done but not acknowledged: only the last even seed of a life.
            let Some(stored) = stored else {
                assert!(unacknowledged_deletion(*seed, put, gone), "{seed} is lost");
                continue;
            };
            assert_eq!(nearest, [stored.id]);
            assert_stored(&store, &record(*seed)).await;
        }
    }
}

/// Whether the child may have died between deleting `seed` and saying so.
fn unacknowledged_deletion(seed: u64, put: &[u64], gone: &[u64]) -> bool {
    let index = (seed % 1_000_000) / 2 + 2;
    let deletes = seed.is_multiple_of(2) && index % 7 == 6;
    deletes && !gone.contains(&seed) && put.contains(&(seed + 5)) && !put.contains(&(seed + 6))
}
