//! `report.html`: one file that shows everything, fetches nothing, and lies beside the videos it plays.

use super::{
    colours::css,
    files::{cell_text, count_text, rows_title, scope},
    page_data::{self, LoadedSheets},
    repeat,
    study::{RowsAre, Study},
    summary::{Curves, Filled},
};
use crate::metrics::{Change, METRICS};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = concat!(include_str!("style/base.css"), include_str!("style/parts.css"));
const SCRIPT: &str = concat!(
    include_str!("script/state.js"),
    include_str!("script/table.js"),
    include_str!("script/against.js"),
    include_str!("script/curves.js"),
    include_str!("script/sheet.js"),
    include_str!("script/player.js"),
    include_str!("script/start.js"),
);
/// Commands that are listed; all are in results.json.
const COMMANDS: usize = 300;

/// The whole page.
pub(super) fn page(study: &Study, table: &[Filled], curves: &[Curves], sheets: &LoadedSheets) -> String {
    fill(TEMPLATE, |name| match name {
        "title" => text(&study.title),
        "version" => text(env!("CARGO_PKG_VERSION")),
        "style" => STYLE.into(),
        "script" => SCRIPT.into(),
        "scope" => text(&scope(study)),
        "facts" => facts(study),
        "notes" => notes(study),
        "table" => results(study, table),
        "caption" => caption(study).into(),
        "repeat" => commands(study),
        "settings" => settings(study),
        "metrics" => definitions(),
        "data" => json_block(&page_data::data(study, table, curves, sheets)),
        "strips" => json_block(&page_data::strips(sheets)),
        _ => String::new(),
    })
}

/// Replaces `{{name}}`; what is put in is not looked at again.
fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::with_capacity(template.len());
    let mut pieces = template.split("{{");
    page += pieces.next().unwrap_or_default();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        page += &value(name);
        page += rest;
    }
    page
}

/// Text in an element or in a quoted attribute.
fn text(text: &str) -> String {
    // NUL and other controls are no characters of a page.
    let printable = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    htmlize::escape_all_quotes(text.chars().map(printable).collect::<String>()).into_owned()
}

/// JSON that cannot end the element it stands in.
fn json_block(value: &impl serde::Serialize) -> String {
    // Only a value with keys that are no texts has no JSON.
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe += &format!("\\u{:04x}", c as u32),
            c => safe.push(c),
        }
    }
    safe
}

fn facts(study: &Study) -> String {
    let mut facts = Vec::new();
    if let Some(plan) = &study.plan {
        facts.push(("model", plan.model.clone()));
        facts.push((
            "length",
            format!("{} s at {} pictures per second", plan.seconds, plan.fps),
        ));
        let axes = plan
            .axes
            .iter()
            .map(|axis| format!("{} {}", axis.key, axis.values.join(", ")));
        facts.push(("grid", axes.collect::<Vec<_>>().join(" × ")));
        if let Some(preset) = &plan.preset {
            facts.push(("preset", preset.clone()));
        }
    }
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    facts
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", text(value)))
        .collect()
}

fn notes(study: &Study) -> String {
    if study.notes.is_empty() {
        return String::new();
    }
    let items: String = study
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>", text(note)))
        .collect();
    format!("<ul class=\"notes\" aria-label=\"Notes\">{items}</ul>")
}

fn caption(study: &Study) -> &'static str {
    match study.compares() {
        true => {
            "Mean ± sample standard deviation over the videos of a setting (prompts × seeds). ★ marks the best mean of a \
             column whose direction is known: ↑ higher, ↓ lower, → nearer to the number. Smallest and largest value: \
             point at a cell."
        }
        false => {
            "Mean ± sample standard deviation over the videos of a row. Rows are not ranked, as they differ in what they \
             show. Smallest and largest value: point at a cell."
        }
    }
}

fn swatch(row: usize, study: &Study) -> String {
    format!(
        "<span class=\"swatch\" style=\"--c:{}\"></span>",
        css(study.colour(row))
    )
}

fn results(study: &Study, table: &[Filled]) -> String {
    let mut html = format!(
        "<thead><tr><th scope=\"col\" class=\"row-head\"><button type=\"button\">{}</button></th>\
         <th scope=\"col\"><button type=\"button\">videos</button></th>",
        rows_title(study)
    );
    for filled in table {
        let column = filled.column;
        html += &format!(
            "<th scope=\"col\" title=\"{}\"><button type=\"button\">{} <span class=\"sign\">{}</span></button><small>{}</small></th>",
            text(&column.better.describe()),
            text(column.title),
            column.better.sign(),
            text(column.unit)
        );
    }
    html += "</tr></thead>";
    for group in study.groups() {
        html += "<tbody>";
        if let Some(label) = &group.label {
            let wide = table.len() + 2;
            html += &format!(
                "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{wide}\">{}</th></tr>",
                text(label)
            );
        }
        for row in &group.rows {
            html += &result_row(study, table, *row);
        }
        html += "</tbody>";
    }
    html
}

fn result_row(study: &Study, table: &[Filled], number: usize) -> String {
    let row = &study.rows[number];
    let mut html = format!(
        "<tr data-row=\"{number}\"><th scope=\"row\" class=\"row-head\">{}<span>{}</span></th>",
        swatch(number, study),
        text(&row.label)
    );
    if let Some(reason) = &row.skipped {
        let wide = table.len() + 1;
        return html
            + &format!(
                "<td class=\"skipped\" colspan=\"{wide}\">not rendered: {}</td></tr>",
                text(reason)
            );
    }
    html += &format!(
        "<td data-value=\"{}\">{}</td>",
        study.of_row(number).count(),
        count_text(study, number)
    );
    for filled in table {
        let cell = filled.cells[number];
        html += &match cell.stat {
            None => "<td class=\"none\">–</td>".into(),
            Some(stat) => format!(
                "<td data-value=\"{}\"{} title=\"{} to {}, {} video{}\">{}{}</td>",
                stat.mean,
                if cell.best { " class=\"best\"" } else { "" },
                filled.text(stat.min),
                filled.text(stat.max),
                stat.n,
                if stat.n == 1 { "" } else { "s" },
                if cell.best {
                    "<span class=\"star\" title=\"best\">★</span>"
                } else {
                    ""
                },
                spread(&cell_text(filled, cell)),
            ),
        };
    }
    html + "</tr>"
}

/// Makes the spread smaller than the mean.
fn spread(cell: &str) -> String {
    match cell.split_once(" ± ") {
        Some((mean, std)) => format!("{mean} <small>± {std}</small>"),
        None => cell.into(),
    }
}

fn settings(study: &Study) -> String {
    if study.rows_are != RowsAre::Settings || study.plan.is_none() {
        return String::new();
    }
    let keys: std::collections::BTreeSet<_> = study.rows.iter().flat_map(|row| row.settings.keys()).collect();
    let heads: String = keys
        .iter()
        .map(|key| format!("<th scope=\"col\">{}</th>", text(key)))
        .collect();
    let mut html = format!(
        "<h3>Settings</h3><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Settings\"><table class=\"plain\"><thead><tr><th scope=\"col\">setting</th><th scope=\"col\">folder</th>{heads}</tr></thead><tbody>"
    );
    for (number, row) in study.rows.iter().enumerate() {
        let cells = keys.iter().map(|key| {
            let value = row.settings.get(*key).map_or("–", String::as_str);
            format!("<td>{}</td>", text(value))
        });
        html += &format!(
            "<tr><th scope=\"row\">{}{}</th><td><code>{}/</code></td>{}</tr>",
            swatch(number, study),
            text(&row.label),
            text(&row.name),
            cells.collect::<String>()
        );
    }
    html + "</tbody></table></div>"
}

fn command(line: &str) -> String {
    format!(
        "<div class=\"command\"><pre tabindex=\"0\"><code>{}</code></pre><button type=\"button\" class=\"copy\">copy</button></div>",
        text(line)
    )
}

fn commands(study: &Study) -> String {
    let mut html = String::new();
    if let Some(line) = study.plan.as_ref().and_then(repeat::sweep) {
        html += "<h3>The whole sweep</h3>";
        html += &command(&line);
    }
    html += "<details><summary>Every single video</summary><p>In the folder of this report. <code>rerun</code> reads the \
             recipe out of the file; <code>generate</code> says the same in flags, where flags can say it.</p><dl class=\"commands\">";
    for video in study.videos.iter().take(COMMANDS) {
        html += &format!(
            "<dt>{}</dt><dd>{}",
            text(&video.line.file),
            command(&repeat::rerun(video))
        );
        if let Some(line) = repeat::generate(video, study.plan.as_ref()) {
            html += &command(&line);
        }
        html += "</dd>";
    }
    html += "</dl>";
    if study.videos.len() > COMMANDS {
        html += &format!(
            "<p>{} more are in <code>results.json</code>.</p>",
            study.videos.len() - COMMANDS
        );
    }
    html + "</details>"
}

fn definitions() -> String {
    let all = METRICS.iter().map(|metric| {
        let change = match metric.change {
            Change::Ratio => "last five seconds ÷ first five",
            Change::Difference => "last five seconds − first five",
            Change::Distance => "distance of the last five seconds from the first five",
            Change::None => "none",
        };
        format!(
            "<div class=\"metric\"><h3>{}</h3><dl><div><dt>key</dt><dd><code>{}</code></dd></div><div><dt>unit</dt><dd>{}</dd></div>\
             <div><dt>formula</dt><dd>{}</dd></div><div><dt>change</dt><dd>{change}</dd></div><div><dt>source</dt><dd>{}</dd></div></dl></div>",
            text(metric.name),
            metric.key,
            text(metric.unit),
            text(metric.formula),
            text(metric.source)
        )
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(text("</script><b a=\"'&"), "&lt;/script&gt;&lt;b a=&quot;&apos;&amp;");
        assert_eq!(text("a\0b\nc"), "a\u{fffd}b\nc");
        let hostile = "</script><!--\u{2028}&";
        let value = serde_json::json!({ "prompt": hostile });
        let block = json_block(&value);
        assert!(!block.contains(['<', '>', '&', '\u{2028}']), "{block}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&block).unwrap(), value);
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        let filled = fill("a {{x}} b {{y}} {{unknown}}c", |name| match name {
            "x" => "{{y}}".into(),
            "y" => "Y".into(),
            _ => String::new(),
        });
        assert_eq!(filled, "a {{y}} b Y c");
    }

    /// `{{` in a script would be taken for a name.
    #[test]
    fn every_name_of_the_template_is_known() {
        let names = TEMPLATE.split("{{").skip(1).filter_map(|piece| piece.split_once("}}"));
        let names: Vec<_> = names.map(|(name, _)| name).collect();
        let known = [
            "title", "style", "scope", "facts", "notes", "caption", "table", "repeat", "settings", "metrics", "data",
            "strips", "script", "version",
        ];
        for name in &names {
            assert!(known.contains(name), "{name}");
        }
        assert!(known.iter().all(|name| names.contains(name)), "{names:?}");
    }
}
