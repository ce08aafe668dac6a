//! The few series that matter, out of a page in Prometheus' text format.

use super::ServerReport;

/// How the series of one name become one number.
#[derive(Clone, Copy)]
enum Over {
    /// Of several models or GPUs: together.
    Sum,
    /// Shares: on average.
    Mean,
}

/// vLLM (docs "Production Metrics"; the second name is that of versions before 0.10), SGLang, TGI,
/// Triton, llama.cpp.
const RUNNING: [&str; 4] = [
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "tgi_batch_current_size",
    "llamacpp:requests_processing",
];
const WAITING: [&str; 5] = [
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "tgi_queue_size",
    "nv_inference_pending_request_count",
    "llamacpp:requests_deferred",
];
const KV_CACHE: [&str; 4] = [
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
];
const GPU_MEMORY: [&str; 1] = ["nv_gpu_memory_used_bytes"];
const GPU_MEMORY_MAX: [&str; 1] = ["nv_gpu_memory_total_bytes"];
const GPU_BUSY: [&str; 1] = ["nv_gpu_utilization"];

/// Reads a page; whatever is not understood is passed over.
pub(super) fn read(page: &str) -> ServerReport {
    let of = |names: &[&str], over| names.iter().find_map(|name| value(page, name, over));
    ServerReport {
        readable: true,
        running: of(&RUNNING, Over::Sum),
        waiting: of(&WAITING, Over::Sum),
        kv_cache: of(&KV_CACHE, Over::Mean),
        gpu_memory: of(&GPU_MEMORY, Over::Sum),
        gpu_memory_max: of(&GPU_MEMORY_MAX, Over::Sum),
        gpu_busy: of(&GPU_BUSY, Over::Mean),
    }
}

fn value(page: &str, name: &str, over: Over) -> Option<f64> {
    let samples = page.lines().filter_map(|line| sample(line, name));
    let (sum, count) = samples.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then_some(match over {
        Over::Sum => sum,
        Over::Mean => sum / f64::from(count),
    })
}

/// `name{labels} value [timestamp]`. A label's value may hold braces and spaces, so the value is
/// looked for behind the last brace.
fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let value = match rest.as_bytes().first()? {
        b'{' => rest.rsplit_once('}')?.1,
        b' ' | b'\t' => rest,
        _ => return None,
    };
    let value: f64 = value.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_vllm_says_queue_and_cache() {
        let page = "# HELP vllm:num_requests_running Number of requests.\n\
            # TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a {b} c\"} 3.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 2.0\n\
            vllm:num_requests_waiting{engine=\"0\"} 7\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\"} 99\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n\
            vllm:kv_cache_usage_perc{engine=\"1\"} 0.7\n";
        let report = read(page);
        assert_eq!((report.running, report.waiting), (Some(5.0), Some(7.0)));
        assert!((report.kv_cache.unwrap() - 0.6).abs() < 1e-9);
        assert_eq!(report.gpu_memory, None);
    }

    #[test]
    fn a_triton_says_memory_and_a_tgi_its_queue() {
        let page = "nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} 1e9 1700000000\n\
            nv_gpu_memory_used_bytes{gpu_uuid=\"b\"} 2e9\n\
            nv_gpu_memory_total_bytes{gpu_uuid=\"a\"} 8e9\n\
            nv_gpu_utilization{gpu_uuid=\"a\"} 0.4\n\
            nv_inference_pending_request_count{model=\"m\"} 4\n";
        let report = read(page);
        assert_eq!((report.gpu_memory, report.gpu_memory_max), (Some(3e9), Some(8e9)));
        assert_eq!((report.waiting, report.gpu_busy), (Some(4.0), Some(0.4)));
        assert_eq!(read("tgi_queue_size 12\ntgi_batch_current_size 8\n").waiting, Some(12.0));
        assert_eq!(read("tgi_queue_size NaN\n").waiting, None);
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "(vllm:num_requests_running|[a-z{}\" .0-9])*") {
            read(&page);
        }
    }
}
