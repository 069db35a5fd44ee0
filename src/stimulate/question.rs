//! A question to a language model: a prompt, where it answers, and what is right and wrong there.

use crate::device::forward::ForwardInput;
use crate::device::score::Scoring;

/// One prompt with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The prompt, special tokens included.
    pub tokens: Vec<u32>,
    /// The token whose logits answer.
    pub at: u32,
    /// The right answer.
    pub target: u32,
    /// The wrong one, where a method compares.
    pub foil: Option<u32>,
    /// A prompt of as many tokens that asks for the wrong one.
    pub other: Option<Vec<u32>>,
}

/// Where neurons are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Where {
    /// At every token.
    #[default]
    Everywhere,
    /// At the answering token alone.
    Answer,
}

impl Where {
    /// Each question, from the first token that changes.
    pub(super) fn copies(self, batch: &QuestionBatch) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..batch.len()).map(move |question| match self {
            Self::Everywhere => (question, 0),
            Self::Answer => (question, batch.at(question)),
        })
    }
}

/// Questions of one forward pass, packed end to end.
#[derive(Clone, Debug, Default)]
pub struct QuestionBatch {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// Where each prompt starts, and the end.
    pub starts: Vec<u32>,
    /// Types of the tokens; all 0 if none.
    pub token_types: Option<Vec<u32>>,
    /// The answering token of each, counted in the batch.
    pub rows: Vec<u32>,
    /// The right answers.
    pub targets: Vec<u32>,
    /// The wrong answers, if every question has one.
    pub foils: Option<Vec<u32>>,
}

impl QuestionBatch {
    /// Packs questions.
    pub fn new(questions: &[Question]) -> Self {
        let mut batch = Self { starts: vec![0], ..Self::default() };
        for question in questions {
            batch.rows.push(end(&batch.tokens) + question.at);
            batch.tokens.extend_from_slice(&question.tokens);
            batch.starts.push(end(&batch.tokens));
            batch.targets.push(question.target);
        }
        batch.foils = questions.iter().map(|question| question.foil).collect();
        batch
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For the forward pass.
    pub fn input(&self) -> ForwardInput<'_> {
        ForwardInput {
            tokens: &self.tokens,
            starts: &self.starts,
            token_types: self.token_types.as_deref(),
            positions: None,
        }
    }

    /// Every question's answer, and nothing kept.
    pub fn scoring<T>(&self) -> Scoring<'_, T> {
        Scoring {
            rows: &self.rows,
            targets: &self.targets,
            foils: self.foils.as_deref(),
            reference: None,
            keep: None,
        }
    }

    /// The answering token of a question, counted in its prompt.
    pub fn at(&self, question: usize) -> usize {
        (self.rows[question] - self.starts[question]) as usize
    }

    /// Tokens of a question.
    pub fn length(&self, question: usize) -> usize {
        (self.starts[question + 1] - self.starts[question]) as usize
    }
}

fn end(tokens: &[u32]) -> u32 {
    u32::try_from(tokens.len()).expect("a batch is small")
}

/// Cuts questions into runs of at most so many tokens, in order; one that is longer stands alone.
pub fn batches(questions: &[Question], tokens: usize) -> Vec<std::ops::Range<usize>> {
    let (mut cuts, mut first, mut sum) = (Vec::new(), 0, 0);
    for (at, question) in questions.iter().enumerate() {
        if at > first && sum + question.tokens.len() > tokens {
            cuts.push(first..at);
            (first, sum) = (at, 0);
        }
        sum += question.tokens.len();
    }
    if first < questions.len() {
        cuts.push(first..questions.len());
    }
    cuts
}
