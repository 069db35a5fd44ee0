//! CoNLL-U, the ten columns of Universal Dependencies (<https://universaldependencies.org/format>).

use std::collections::VecDeque;

use super::open::{Line, Lines};
use super::{Checked, Columns, FileReader, MAX_DOCUMENT_BYTES, Unit, word_labels};
use crate::corpus::config::TextSource;
use crate::corpus::document::{Document, Sentence, Word};
use crate::error::Result;
use crate::id::RowId;

/// Reads `.conllu`: a document per `# newdoc`, or per sentence before the first of them.
pub(super) struct Conllu {
    lines: Lines,
    source: TextSource,
    columns: Columns,
    /// A `# newdoc` was seen: sentences gather in `open` until the next.
    grouped: bool,
    open: Option<Open>,
    ready: VecDeque<Unit>,
    ended: bool,
}

/// A document whose end was not yet seen.
#[derive(Default)]
struct Open {
    document: Document,
    offset: Option<u64>,
    bytes: usize,
    words: usize,
}

/// A sentence while its lines come in.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    /// `Some` after a `# newdoc`, with its id if it has one.
    newdoc: Option<Option<String>>,
    offset: Option<Option<u64>>,
    words: Vec<DraftWord>,
    surfaces: Vec<Surface>,
    /// First thing that is wrong with it, and its line.
    wrong: Option<(u64, String)>,
}

/// A syntactic word: a line with a whole number.
struct DraftWord {
    form: String,
    space_after: bool,
    labels: Vec<(String, String)>,
}

/// A multiword token: a line with a range. Its words stand between `first` and `last`, from 0.
struct Surface {
    first: usize,
    last: usize,
    form: String,
    space_after: bool,
}

impl Conllu {
    pub(super) fn new(lines: Lines, source: TextSource, columns: Columns) -> Self {
        let ready = VecDeque::new();
        Self { lines, source, columns, grouped: false, open: None, ready, ended: false }
    }

    /// The next sentence with its lines checked; none at the end of the file.
    fn draft(&mut self) -> Result<Option<Draft>> {
        let mut draft = Draft::default();
        loop {
            let line = self.lines.advance()?;
            let number = self.lines.number();
            let problem = match line {
                Line::End => {
                    let some = !draft.words.is_empty() || draft.wrong.is_some();
                    return Ok(some.then_some(draft));
                }
                Line::Bad(what) => Err(what.to_owned()),
                Line::Text => {
                    let text = self.lines.text();
                    if text.trim().is_empty() {
                        if draft.words.is_empty() && draft.wrong.is_none() {
                            continue; // Comments may stand apart from their sentence.
                        }
                        return Ok(Some(draft));
                    }
                    draft.offset.get_or_insert(self.lines.seekable_start());
                    draft.line(text, &self.columns)
                }
            };
            if let Err(what) = problem {
                draft.wrong.get_or_insert((number, what));
            }
        }
    }

    /// Puts a sentence where it belongs.
    fn place(&mut self, mut draft: Draft) {
        let offset = draft.offset.flatten();
        if let Some(id) = draft.newdoc.take() {
            self.close();
            self.grouped = true;
            let document = Document { id, ..Document::default() };
            self.open = Some(Open { document, offset, ..Open::default() });
        }
        let number = self.lines.number();
        let sentence = match draft.wrong.take() {
            Some(wrong) => Err(wrong),
            None => draft.sentence(self.source).map_err(|what| (number, what)),
        };
        let sentence = match sentence {
            Ok(sentence) => sentence,
            Err((line, what)) => return self.ready.push_back(Unit::bad_line(line, what)),
        };
        if !self.grouped {
            self.open = Some(Open { offset, ..Open::default() });
        }
        let open = self.open.get_or_insert_with(Open::default);
        let (bytes, words) = (sentence.text.len(), sentence.words.len());
        let full = open.bytes + bytes > MAX_DOCUMENT_BYTES
            || open.words + words > usize::try_from(RowId::MAX_PLACE).unwrap_or(usize::MAX);
        if full && !open.document.sentences.is_empty() {
            let id = open.document.id.clone();
            self.close();
            let document = Document { id, ..Document::default() };
            self.open = Some(Open { document, ..Open::default() });
        }
        let open = self.open.get_or_insert_with(Open::default);
        open.bytes += bytes;
        open.words += words;
        open.document.sentences.push(sentence);
        if !self.grouped {
            self.close();
        }
    }

    /// Hands on the document in the making, unless nothing of it could be read.
    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && !open.document.sentences.is_empty()
        {
            self.ready.push_back(Unit::Document(open.document, open.offset));
        }
    }
}

impl FileReader for Conllu {
    fn next(&mut self) -> Result<Option<Unit>> {
        loop {
            if let Some(unit) = self.ready.pop_front() {
                return Ok(Some(unit));
            }
            if self.ended {
                return Ok(None);
            }
            match self.draft()? {
                Some(draft) => self.place(draft),
                None => {
                    self.ended = true;
                    self.close();
                }
            }
        }
    }
}

impl Draft {
    /// Takes one line that is not blank.
    fn line(&mut self, text: &str, columns: &Columns) -> Checked<()> {
        if let Some(comment) = text.strip_prefix('#') {
            self.comment(comment.trim());
            return Ok(());
        }
        let fields: Vec<&str> = text.split('\t').collect();
        let [number, form, lemma, upos, xpos, feats, _, deprel, _, misc] = fields[..] else {
            return Err(format!("{} columns instead of 10", fields.len()));
        };
        if form.is_empty() {
            return Err("the form is empty".to_owned());
        }
        let space_after = !misc.split('|').any(|entry| entry == "SpaceAfter=No");
        if let Some((first, last)) = number.split_once('-') {
            return self.surface(first, last, form, space_after);
        }
        if let Some((word, node)) = number.split_once('.') {
            // An empty node of the enhanced graph: it is not in the text.
            let numbers = word.parse::<u32>().is_ok() && node.parse::<u32>().is_ok();
            return numbers.then_some(()).ok_or_else(|| format!("'{number}' is no number"));
        }
        let position = self.words.len();
        if number.parse() != Ok(position + 1) {
            return Err(format!("word number '{number}' where {} was due", position + 1));
        }
        let mut labels = word_labels(columns, form, position);
        let given = [("lemma", lemma), ("upos", upos), ("xpos", xpos), ("deprel", deprel)];
        for (column, value) in given {
            // `_` is "not given", except as the lemma of the word "_" itself.
            let given = value != "_" || (column == "lemma" && form == "_");
            if given && !value.is_empty() && columns.wants(column) {
                labels.push((column.to_owned(), value.to_owned()));
            }
        }
        if feats != "_" {
            for feature in feats.split('|') {
                let (key, value) =
                    feature.split_once('=').ok_or(format!("feature '{feature}' has no '='"))?;
                if columns.wants_feature(key) {
                    labels.push((format!("feats.{key}"), value.to_owned()));
                }
            }
        }
        self.words.push(DraftWord { form: form.to_owned(), space_after, labels });
        Ok(())
    }

    /// Takes a multiword token's line.
    fn surface(&mut self, first: &str, last: &str, form: &str, space_after: bool) -> Checked<()> {
        let wrong = || format!("range '{first}-{last}' does not fit here");
        let (first_word, last_word): (usize, usize) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        let due = self.words.len() + 1;
        let overlaps = self.surfaces.last().is_some_and(|before| before.last + 1 >= first_word);
        if first_word != due || last_word < first_word || overlaps {
            return Err(wrong());
        }
        let (first, last) = (first_word - 1, last_word - 1);
        self.surfaces.push(Surface { first, last, form: form.to_owned(), space_after });
        Ok(())
    }

    /// Takes a comment without its `#`.
    fn comment(&mut self, comment: &str) {
        if let Some(rest) = comment.strip_prefix("newdoc") {
            if rest.is_empty() || rest.starts_with(char::is_whitespace) {
                let id = rest.trim().strip_prefix("id").map(|id| id.trim_start_matches([' ', '=']));
                self.newdoc = Some(id.filter(|id| !id.is_empty()).map(str::to_owned));
            }
        } else if let Some(rest) = comment.strip_prefix("sent_id") {
            self.id = rest.trim().strip_prefix('=').map(|id| id.trim().to_owned());
        }
    }

    /// The finished sentence.
    fn sentence(self, source: TextSource) -> Checked<Sentence> {
        if let Some(last) = self.surfaces.last()
            && last.last >= self.words.len()
        {
            return Err(format!("a multiword token ends after word {}", self.words.len()));
        }
        let mut sentence = Sentence { id: self.id.clone(), ..Sentence::default() };
        match source {
            TextSource::Words => self.join(&mut sentence),
            TextSource::Original => self.rebuild(&mut sentence),
        }
        Ok(sentence)
    }

    /// Forms with a blank between them.
    fn join(self, sentence: &mut Sentence) {
        for word in self.words {
            if !sentence.text.is_empty() {
                sentence.text.push(' ');
            }
            let start = sentence.text.len();
            sentence.text.push_str(&word.form);
            let span = start..sentence.text.len();
            sentence.words.push(Word { span, form: word.form, labels: word.labels });
        }
    }

    /// The sentence as it was written. The words of a multiword token share out its surface where
    /// their forms make it up ("don't"); otherwise each stands for all of it ("du" = "de" "le").
    fn rebuild(self, sentence: &mut Sentence) {
        let mut surfaces = self.surfaces.into_iter().peekable();
        let mut blank_due = false;
        let mut words = self.words.into_iter().enumerate();
        while let Some((index, word)) = words.next() {
            if std::mem::take(&mut blank_due) {
                sentence.text.push(' ');
            }
            let start = sentence.text.len();
            let Some(surface) = surfaces.next_if(|surface| surface.first == index) else {
                sentence.text.push_str(&word.form);
                blank_due = word.space_after;
                let span = start..sentence.text.len();
                sentence.words.push(Word { span, form: word.form, labels: word.labels });
                continue;
            };
            sentence.text.push_str(&surface.form);
            blank_due = surface.space_after;
            let rest = words.by_ref().take(surface.last - surface.first).map(|(_, word)| word);
            let parts: Vec<DraftWord> = std::iter::once(word).chain(rest).collect();
            let joined: String = parts.iter().map(|word| word.form.as_str()).collect();
            let mut at = start;
            for part in parts {
                let span = if joined == surface.form {
                    at += part.form.len();
                    at - part.form.len()..at
                } else {
                    start..sentence.text.len()
                };
                sentence.words.push(Word { span, form: part.form, labels: part.labels });
            }
        }
    }
}
