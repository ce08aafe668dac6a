"""The results as a Markdown report, JSON, and bars in SVG."""

import html
import json
import os
import platform
import statistics

import whole


def markdown(results, options):
    lines = [
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, {options.rounds} interleaved rounds of {options.seconds} s;"
        " load generator, proxies and origin on the same machine; 66-byte prompt body, 616-byte answer, HTTP/1.1,"
        " keep-alive, access log off", ""]
    lines += answers(results["whole"])
    if "half" in results:
        lines += half_load(results["half"])
    lines += embedding(results["whole"])
    if "tax" in results:
        lines += taxes(results["tax"])
    if "streams" in results:
        lines += streams(results["streams"])
    if "replay" in results:
        lines += replays(results["replay"])
    return "\n".join(lines) + "\n"


def answers(results):
    cases = results["cases"]
    nginx = cases["nginx proxy_pass"]
    base_rate, base_p50, base_p99 = (statistics.median(nginx[key]) for key in ("rate", "p50", "p99"))
    lines = ["| System | requests/s, 32 connections | x nginx | p50 us, 1 connection | x nginx | p99 us | x nginx |",
             "|---|---|---|---|---|---|---|"]
    for name, result in cases.items():
        rate = statistics.median(result["rate"])
        cells = [name, spread(result["rate"]), f"{rate / base_rate:.2f}"]
        if "p50" in result:
            p50, p99 = statistics.median(result["p50"]), statistics.median(result["p99"])
            cells += [spread(result["p50"]), f"{p50 / base_p50:.2f}", f"{p99:,.0f}", f"{p99 / base_p99:.2f}"]
        else:
            cells += ["", "", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Stage budget at 1 connection, mean us:"]
    for name, stages in results["budget_us"].items():
        lines.append(f"- {name}: " + ", ".join(f"{stage} {us:.1f}" for stage, us in stages.items()))
    return lines


def half_load(results):
    cases = results["cases"]
    base = statistics.median(cases["nginx proxy_pass"]["p99"])
    lines = ["", f"At {results['rate']:,} requests/s, half of the exact hit's most, over 32 connections that ask in bursts"
             " of 10 ms (h2load), p50 / p99 us:"]
    for name, one in cases.items():
        p50, p99 = statistics.median(one["p50"]), statistics.median(one["p99"])
        lines.append(f"- {name}, at {one['share']:.0%} of its own most, {statistics.median(one['reached']):,.0f} reached: {p50:,.0f} / {p99:,.0f} = {p99 / base:.2f} x"
                     " nginx proxy_pass")
    return lines


def embedding(results):
    lines = ["", "The embedding alone (one thread, no HTTP), in the same rounds, tokens: p50 / p99 us"]
    for tokens, spans in results["embedding_us"].items():
        p50 = statistics.median(spans["p50"])
        lines.append(f"- {tokens}: {spread(spans['p50'])} / {statistics.median(spans['p99']):,.0f}")
        if tokens == "9":
            hit = statistics.median(results["cases"][whole.SEMANTIC]["p50"])
            lines.append(f"  - a semantic hit of that prompt over HTTP: {hit:,.0f} = {hit / p50:.2f} x")
    return lines


def taxes(results):
    direct = results["direct to the origin"]["us"]
    lines = ["", "The tax of a miss, one caller, a model that needs 20 ms, us to the answer's head beyond direct (means of"
             " rounds, their median):"]
    for name, one in list(results.items())[1:]:
        beyond = [there - here for there, here in zip(one["us"], direct)]
        embed = f", the embedding {spread(one['embed'])}" if one["embed"] else ""
        lines.append(f"- {name}: {spread(beyond)}{embed}")
    return lines


def streams(results):
    lines = ["", "Streams of 100 tokens at 100 tokens/s, microseconds p50 / p99 / p99.9:", "",
             "| Load | System | first token | between tokens | later than its pace | failed | KiB a stream |",
             "|---|---|---|---|---|---|---|"]
    for load, systems in results.items():
        for name, one in systems.items():
            cells = [" / ".join(f"{one[f'{kind}_{mark}']:,}" for mark in ("p50", "p99", "p999"))
                     for kind in ("first", "gap", "lag")]
            memory = f"{one['kib_per_stream']:.1f}" if "kib_per_stream" in one else ""
            lines.append(f"| {load} | {name} | " + " | ".join(cells) + f" | {one['failed']} | {memory} |")
    return lines


def replays(results):
    if "skipped" in results:
        return ["", f"Replay skipped: {results['skipped']}"]
    lines = ["", "2,000 prompts of BANKING77, mixed, empty cache, the same embedding model:", "",
             "| System | hits | wrong of hits | semantic hit p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for name, one in results.items():
        lines.append(f"| {name} | {one['hits'] / one['requests']:.1%} | {one['wrong'] / max(one['hits'], 1):.2%} |"
                     f" {one['p50_ms']:.2f} | {one['p99_ms']:.2f} |")
    return lines


def spread(values):
    middle = statistics.median(values)
    return f"{middle:,.0f}" + (f" ±{(max(values) - min(values)) / 2 / middle:.0%}" if middle else "")


def write(folder, results, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (folder / "results.md").write_text(text, encoding="utf-8")
    cases = results["whole"]["cases"]
    for key, title in (("rate", "requests/s at 32 connections"), ("p50", "p50 in microseconds at 1 connection")):
        values = {name: statistics.median(one[key]) for name, one in cases.items() if key in one}
        (folder / f"{key}.svg").write_text(bars(title, values), encoding="utf-8")


def bars(title, values):
    """Horizontal bars, longest first; colours by `currentColor`, so that it reads on light and dark."""
    high, row, label, width = max(values.values()), 22, 230, 420
    height = 34 + row * len(values)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif"'
           f' font-size="12" fill="#444"><title>{html.escape(title)}</title>'
           f'<text x="0" y="16" font-weight="bold">{html.escape(title)}</text>']
    for index, (name, value) in enumerate(sorted(values.items(), key=lambda one: -one[1])):
        y = 30 + index * row
        colour = "#2a78d6" if name.startswith("Reprise") else "#9aa0a6"
        out.append(f'<text x="{label - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
                   f'<rect x="{label}" y="{y}" width="{max(1, value / high * width):.1f}" height="16" rx="3"'
                   f' fill="{colour}"/>'
                   f'<text x="{label + value / high * width + 6:.1f}" y="{y + 13}">{value:,.0f}</text>')
    return "".join(out) + "</svg>\n"
