//! The process itself, under the names that every Prometheus client uses.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::proto::MetricFamily;

use super::sources::{Family, Sampled};

/// What Linux says of us in /proc; other systems show the start time only.
pub(super) fn families(began_at: SystemTime) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut out = Sampled(Vec::new());
    let start = began_at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    out.labelled(
        Family::Gauge,
        "process_start_time_seconds",
        "When the process started, Unix time.",
        &[],
        [(Vec::new(), start)],
    )?;
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|it| cpu(&it)) {
        out.labelled(
            Family::Counter,
            "process_cpu_seconds_total",
            "User and system time spent.",
            &[],
            [(Vec::new(), seconds)],
        )?;
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            out.gauge("process_resident_memory_bytes", "Resident memory.", kib * 1024)?;
        }
        if let Some(threads) = field(&status, "Threads:") {
            out.gauge("process_threads", "Threads of the process.", threads)?;
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Open file descriptors.", open.count() as u64)?;
    }
    if let Some(max) = fs::read_to_string("/proc/self/limits").ok().and_then(|it| max_fds(&it)) {
        out.gauge("process_max_fds", "The most file descriptors that may be open.", max)?;
    }
    Ok(out.0)
}

/// `utime` and `stime` of /proc/self/stat (proc(5), fields 14 and 15), in seconds. Fields are
/// counted from behind the command's name, which may itself hold spaces and brackets.
fn cpu(stat: &str) -> Option<f64> {
    // The kernel shows user space 100 ticks a second whatever its own clock is (USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// The number behind a name in /proc/self/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit of `Max open files`; absent where there is none.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu(stat), Some(3.0));
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(cpu(""), None);
        assert_eq!(field("Threads:\tmany", "Threads:"), None);
        assert_eq!(max_fds("Max open files            unlimited  unlimited  files"), None);
    }

    #[test]
    fn status_and_limits_are_read() {
        assert_eq!(
            field("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\nThreads:\t7\n", "VmRSS:"),
            Some(1234)
        );
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024  4096  files\n";
        assert_eq!(max_fds(limits), Some(1024));
    }
}
