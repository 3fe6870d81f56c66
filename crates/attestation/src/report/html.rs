//! A result as one page for the issuance record: no script, no font, nothing to fetch.

use super::{basis, headline, outcome, printable, reason, sections, warning};
use crate::result::{AttestationResult, Outcome, Verdict};

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1.25rem}\
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:1.75rem 0 .5rem;border-bottom:1px solid #d5dae0;padding-bottom:.25rem}\
.verdict{border-left:.5rem solid;padding:.75rem 1rem;background:#f6f8fa;margin:1rem 0}\
.verdict strong{font-size:1.25rem;display:block}.verdict ul{margin:.5rem 0 0;padding-left:1.2rem}\
.weak{margin:.5rem 0 0;color:#9a6700;font-weight:600}\
.accept{border-color:#1a7f37}.reject{border-color:#b3261e}.unverifiable{border-color:#9a6700}\
table{border-collapse:collapse;width:100%;font-size:.9rem}\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #eaeef2;overflow-wrap:anywhere}\
th{font-weight:600;width:17rem}thead th{border-bottom:1px solid #afb8c1;width:auto}\
td.o{width:4.5rem;font-weight:600;white-space:nowrap}.pass{color:#1a7f37}.fail{color:#b3261e}.unknown{color:#9a6700}.not-checked{color:#57606a}\
td small{display:block;color:#57606a}footer{margin-top:2rem;color:#57606a;font-size:.85rem}\
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}";

/// The page: self-contained, with nothing that runs or is fetched.
#[must_use]
pub fn html(r: &AttestationResult) -> String {
    let (word, sentence) = headline(r);
    let class = match r.verdict {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Unverifiable => "unverifiable",
    };
    let mut reasons: String = r
        .reasons()
        .map(|c| format!("<li>{}</li>", escape(&reason(c))))
        .collect();
    if !reasons.is_empty() {
        reasons = format!("<ul>{reasons}</ul>");
    }
    let weak = warning(r).map_or_else(String::new, |w| {
        format!("<p class=\"weak\">{}</p>", escape(&w))
    });
    let mut body = format!(
        "<h1>Key attestation</h1>\n<div class=\"verdict {class}\"><strong>{word}</strong>{}{reasons}{weak}</div>\n",
        escape(sentence)
    );
    for s in sections(r) {
        let rows: String = s
            .lines
            .iter()
            .map(|(n, v)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(n), escape(v)))
            .collect();
        body.push_str(&format!(
            "<h2>{}</h2>\n<table><tbody>\n{rows}</tbody></table>\n",
            escape(s.title)
        ));
    }
    body.push_str(
        "<h2>Checks</h2>\n<table><thead><tr><th>outcome</th><th>check and what was seen</th><th>rule and where it stands</th></tr></thead><tbody>\n",
    );
    for c in &r.checks {
        let class = match c.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::NotChecked => "not-checked",
            Outcome::Unknown => "unknown",
        };
        body.push_str(&format!(
            "<tr><td class=\"o {class}\">{}</td><td>{}<small>{}</small></td><td>{}<small>{}; {}</small></td></tr>\n",
            outcome(c.outcome),
            escape(&c.name),
            escape(&c.seen),
            escape(&c.rule),
            escape(&c.source),
            basis(c.basis),
        ));
    }
    body.push_str("</tbody></table>\n");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\">\n<title>Key attestation: {word}</title>\n<style>{STYLE}</style>\n</head>\n\
<body>\n<main>\n{body}</main>\n<footer>Appraised at {} with {}. The verdict rests on the inputs with the hashes above; the same inputs, moment, policy and anchors give the same answer.</footer>\n</body>\n</html>\n",
        escape(&r.appraised_at.to_string()),
        escape(&r.anchor_set_version),
    )
}

/// Text from evidence: never markup, never a control character.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_from_evidence_is_never_markup() {
        assert_eq!(
            escape("<img src=x onerror='a()'>&\"\u{1b}"),
            "&lt;img src=x onerror=&#39;a()&#39;&gt;&amp;&quot;\u{fffd}"
        );
    }
}
