//! All lines of a file, some at a time.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::InvalidUri};
use tokio::task::JoinSet;

use super::{
    Wanted, WarmFault, Warmed,
    line::{Defaults, Question},
    pace::Pace,
    send::send,
};
use crate::{
    exchange::{Asked, House},
    front::{Origin, Peer},
};

/// Wrong lines that are told of at once.
const REASONS_MAX: usize = 10;
/// How often a full queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A house that is filled from a file.
pub struct Warmer {
    hands: Arc<Hands>,
    defaults: Defaults,
    concurrency: usize,
}

/// What each line needs.
struct Hands {
    house: Arc<House>,
    client: reqwest::Client,
    to: String,
    address: SocketAddr,
    headers: HeaderMap,
    pace: Pace,
}

/// What became of a line.
enum Done {
    Asked,
    Given,
    Already,
}

impl Warmer {
    /// Fills `house`, whose front is at `address`.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn new(house: Arc<House>, address: SocketAddr, wanted: Wanted) -> Result<Self, WarmFault> {
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| WarmFault::Open(error.to_string()))?;
        let mut headers = wanted.headers;
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        // What is only near is not there: every line's own answer is wanted.
        headers
            .insert(HeaderName::from_static("x-reprise-mode"), HeaderValue::from_static("exact"));
        let pace = Pace::new(wanted.rate);
        let to = format!("http://{address}");
        let hands = Arc::new(Hands { house, client, to, address, headers, pace });
        Ok(Self { hands, defaults: wanted.defaults, concurrency: wanted.concurrency.max(1) })
    }

    /// Reads all lines once, then asks them, and waits until the store has what was kept.
    ///
    /// # Errors
    /// The file's, or its lines': then nothing was asked.
    pub async fn run(
        &self,
        path: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<Warmed, WarmFault> {
        let total = self.check(path)?;
        let (mut warmed, mut running, mut done) = (Warmed::default(), JoinSet::new(), 0);
        let before = self.lost();
        for line in lines(path)? {
            let (number, line) = line.map_err(|source| file(path, source))?;
            // Read before; the file may have changed since.
            let question = match Question::read(&line, &self.defaults) {
                Ok(question) => question,
                Err(reason) => {
                    warmed.failed.push((number, reason));
                    continue;
                }
            };
            while running.len() >= self.concurrency || self.is_behind() {
                match running.try_join_next() {
                    Some(one) => note(&mut warmed, one),
                    None if running.is_empty() => tokio::time::sleep(LOOK_EVERY).await,
                    None => {
                        if let Some(one) = running.join_next().await {
                            note(&mut warmed, one);
                        }
                    }
                }
            }
            let hands = self.hands.clone();
            running.spawn(async move { (number, hands.one(question).await) });
            done += 1;
            tell(done, total);
        }
        while let Some(one) = running.join_next().await {
            note(&mut warmed, one);
        }
        self.settle(&mut warmed, before).await;
        warmed.failed.sort_unstable();
        Ok(warmed)
    }

    /// Counts the lines, all of them questions.
    fn check(&self, path: &Path) -> Result<u64, WarmFault> {
        let (mut count, mut reasons) = (0, Vec::new());
        for line in lines(path)? {
            let (number, line) = line.map_err(|source| file(path, source))?;
            count += 1;
            if let Err(reason) = Question::read(&line, &self.defaults) {
                reasons.push(format!("  line {number}: {reason}"));
            }
            if reasons.len() >= REASONS_MAX {
                reasons.push("  ...".into());
                break;
            }
        }
        if reasons.is_empty() {
            return Ok(count);
        }
        Err(WarmFault::Lines { path: path.display().to_string(), reasons })
    }

    /// Do answers wait for their vectors or for the store? One that finds the queue full would be lost.
    fn is_behind(&self) -> bool {
        let house = &self.hands.house;
        let queue = house.config.store.queue as u64;
        let waiting = house.cache.writes().queued + house.tasks.len() as u64;
        waiting.saturating_mul(2) > queue
    }

    fn lost(&self) -> u64 {
        let writes = self.hands.house.cache.writes();
        writes.dropped + writes.failed + writes.too_large
    }

    /// Waits for what was kept to be in the store.
    async fn settle(&self, warmed: &mut Warmed, before: u64) {
        let house = &self.hands.house;
        while !house.tasks.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Err(fault) = house.cache.flush().await {
            warmed.failed.push((0, fault.to_string()));
        }
        warmed.unwritten = self.lost() - before;
    }
}

impl Hands {
    async fn one(&self, question: Question) -> Result<Done, String> {
        let target: Uri =
            question.path.parse().map_err(|error: InvalidUri| format!("its path: {error}"))?;
        let asked = Asked { target, headers: self.headers.clone(), body: question.body.clone() };
        let peer = Peer { origin: Origin::Tcp(self.address), tls: None };
        let addressed = self.house.address(peer, asked).await.map_err(|why| why.to_string())?;
        if addressed.is_known().await {
            return Ok(Done::Already);
        }
        if let Some(answer) = question.answer.clone() {
            addressed.keep(answer).await.map_err(|why| why.to_string())?;
            return Ok(Done::Given);
        }
        self.pace.turn().await;
        send(&self.client, &self.to, &self.headers, &question).await?;
        // Whoever heard the end of an answer finds it in the cache.
        if addressed.is_known().await {
            return Ok(Done::Asked);
        }
        Err("the upstream answered, and the answer is none that is kept: cut off, empty, filtered, \
             too large, or `no-store`"
            .into())
    }
}

fn note(warmed: &mut Warmed, one: Result<(usize, Result<Done, String>), tokio::task::JoinError>) {
    match one {
        Ok((_, Ok(Done::Asked))) => warmed.asked += 1,
        Ok((_, Ok(Done::Given))) => warmed.given += 1,
        Ok((_, Ok(Done::Already))) => warmed.already += 1,
        Ok((number, Err(reason))) => warmed.failed.push((number, reason)),
        Err(error) => warmed.failed.push((0, error.to_string())),
    }
}

/// Numbers and texts of the lines that hold something.
fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<(usize, String)>>, WarmFault> {
    let opened = File::open(path).map_err(|source| file(path, source))?;
    let numbered = BufReader::new(opened).lines().zip(1..);
    let told = numbered.map(|(line, number)| line.map(|line| (number, line)));
    Ok(told.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty())))
}

fn file(path: &Path, source: std::io::Error) -> WarmFault {
    WarmFault::File { path: path.display().to_string(), source }
}
