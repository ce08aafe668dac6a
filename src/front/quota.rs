//! How much one tenant may ask for in a minute, and how it is told.
//!
//! Requests are paid for when they come, tokens when an upstream has computed them: then a tenant
//! may be in debt for a while. Headers are those that clients of hosted APIs read
//! (`x-ratelimit-*`, OpenAI's API reference, "Rate limits").

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    config::Limits,
    fault::{Fault, Kind},
};

/// Tenants remembered. When there are more, those that have everything left are forgotten, which
/// changes nothing for them; when all are busy, the rest goes uncounted rather than refused.
const TENANTS_MAX: usize = 100_000;

const MINUTE: f64 = 60.0;

/// Every tenant's account. Clones are the same accounts.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Mutex<HashMap<Arc<str>, Account>>>);

#[derive(Debug)]
struct Account {
    requests: Bucket,
    tokens: Bucket,
}

/// What is left of a minute's worth, which comes back evenly.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// How a tenant stands, for its client to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    requests: Option<Left>,
    tokens: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    limit: u64,
    remaining: u64,
    /// Until all is back.
    reset: Duration,
}

impl Quotas {
    /// Takes one request of `tenant`, or says [`Kind::RateLimited`] with a `Retry-After`; `None`
    /// where nothing is limited.
    ///
    /// # Errors
    /// The tenant has used up its minute.
    pub fn take(&self, tenant: &Arc<str>, limits: &Limits) -> Result<Option<Standing>, Fault> {
        let (requests, tokens) = (limits.tenant_requests, limits.tenant_tokens);
        if requests == 0 && tokens == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let mut accounts = self.0.lock();
        let Some(account) = account(&mut accounts, tenant, limits, now) else { return Ok(None) };
        account.requests.fill(requests, now);
        account.tokens.fill(tokens, now);
        // Tokens are owed afterwards: nobody knows yet how many, and one that is left will do.
        let waits = [
            (requests, account.requests.until(requests, 1.0)),
            (tokens, account.tokens.until(tokens, 1.0)),
        ];
        let waits = waits.into_iter().filter(|(limit, _)| *limit > 0);
        let wait = waits.map(|(_, wait)| wait).max().unwrap_or_default();
        if !wait.is_zero() {
            let message = "this tenant has used up its requests or tokens of the minute \
                           (limits.tenant_requests, limits.tenant_tokens)";
            return Err(Fault::new(Kind::RateLimited, message).safe_to_retry().retry_after(wait));
        }
        if requests > 0 {
            account.requests.left -= 1.0;
        }
        Ok(Some(Standing {
            requests: account.requests.tell(requests),
            tokens: account.tokens.tell(tokens),
        }))
    }

    /// Notes tokens that an upstream computed for `tenant`.
    pub fn spend(&self, tenant: &Arc<str>, used: u64, limits: &Limits) {
        if limits.tenant_tokens == 0 {
            return;
        }
        let now = Instant::now();
        if let Some(account) = account(&mut self.0.lock(), tenant, limits, now) {
            account.tokens.fill(limits.tenant_tokens, now);
            account.tokens.left -= used as f64;
        }
    }
}

fn account<'a>(
    accounts: &'a mut HashMap<Arc<str>, Account>,
    tenant: &Arc<str>,
    limits: &Limits,
    now: Instant,
) -> Option<&'a mut Account> {
    if accounts.len() >= TENANTS_MAX && !accounts.contains_key(tenant) {
        let full = |bucket: &Bucket, limit| bucket.until(limit, limit as f64) <= now - bucket.at;
        accounts.retain(|_, account| {
            !full(&account.requests, limits.tenant_requests)
                || !full(&account.tokens, limits.tenant_tokens)
        });
        if accounts.len() >= TENANTS_MAX {
            return None;
        }
    }
    let new = |limit: u64| Bucket { left: limit as f64, at: now };
    Some(accounts.entry(tenant.clone()).or_insert_with(|| Account {
        requests: new(limits.tenant_requests),
        tokens: new(limits.tenant_tokens),
    }))
}

impl Bucket {
    fn fill(&mut self, limit: u64, now: Instant) {
        let back = now.saturating_duration_since(self.at).as_secs_f64() * limit as f64 / MINUTE;
        self.left = (self.left + back).min(limit as f64);
        self.at = now;
    }

    /// How long until `wanted` are left.
    fn until(&self, limit: u64, wanted: f64) -> Duration {
        let missing = (wanted - self.left).max(0.0);
        if limit == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(missing * MINUTE / limit as f64)
        }
    }

    fn tell(&self, limit: u64) -> Option<Left> {
        let spent = (limit as f64 - self.left).max(0.0);
        (limit > 0).then(|| Left {
            limit,
            remaining: self.left.max(0.0) as u64,
            reset: Duration::from_secs_f64(spent * MINUTE / limit as f64),
        })
    }
}

impl Standing {
    /// Writes it into a response, over what an upstream says of its own limits.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (what, left) in [("requests", self.requests), ("tokens", self.tokens)] {
            let Some(left) = left else { continue };
            let reset = humantime::format_duration(Duration::from_millis(
                u64::try_from(left.reset.as_millis()).unwrap_or(u64::MAX),
            ));
            for (name, value) in [
                ("limit", left.limit.to_string()),
                ("remaining", left.remaining.to_string()),
                ("reset", reset.to_string().replace(' ', "")),
            ] {
                let name = HeaderName::try_from(format!("x-ratelimit-{name}-{what}"));
                if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{self, Overrides};

    fn limits(requests: u64, tokens: u64) -> Limits {
        let overrides = Overrides { upstream: Some("http://h:1".into()), ..Overrides::default() };
        let mut limits = config::load(None, &BTreeMap::new(), &overrides).unwrap().limits;
        (limits.tenant_requests, limits.tenant_tokens) = (requests, tokens);
        limits
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_its_requests_each_minute_and_another_has_its_own() {
        let (quotas, limits) = (Quotas::default(), limits(6, 0));
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        for left in (0..6).rev() {
            let standing = quotas.take(&one, &limits).unwrap().unwrap();
            assert_eq!(standing.requests.unwrap().remaining, left);
        }
        let fault = quotas.take(&one, &limits).unwrap_err();
        assert_eq!(
            (fault.kind, fault.retry_after),
            (Kind::RateLimited, Some(Duration::from_secs(10)))
        );
        quotas.take(&other, &limits).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        quotas.take(&one, &limits).unwrap();
        quotas.take(&one, &limits).unwrap_err();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let standing = quotas.take(&one, &limits).unwrap().unwrap();
        assert_eq!(standing.requests.unwrap().remaining, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_owed_and_the_debt_is_waited_out() {
        let (quotas, limits) = (Quotas::default(), limits(0, 600));
        let tenant = Arc::from("one");
        quotas.take(&tenant, &limits).unwrap();
        quotas.spend(&tenant, 700, &limits);
        let fault = quotas.take(&tenant, &limits).unwrap_err();
        assert_eq!(fault.retry_after, Some(Duration::from_millis(10_100)));
        tokio::time::advance(Duration::from_secs(11)).await;
        let mut headers = HeaderMap::new();
        quotas.take(&tenant, &limits).unwrap().unwrap().tell(&mut headers);
        assert_eq!(headers["x-ratelimit-limit-tokens"], "600");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "10");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "59s");
        assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    }

    #[test]
    fn without_limits_nobody_is_counted() {
        let quotas = Quotas::default();
        assert_eq!(quotas.take(&Arc::from("one"), &limits(0, 0)).unwrap(), None);
        assert!(quotas.0.lock().is_empty());
    }
}
