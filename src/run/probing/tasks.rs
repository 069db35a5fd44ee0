//! What is learned: a task for each label column (or class of it), and one for each draw of control
//! labels on the same rows.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Control, ProbesConfig, Target, WORD_TYPE};
use crate::corpus::block::{Column, Labels};
use crate::error::{Error, Result};
use crate::methods::probing::control::{ControlSettings, ControlTask, DrawnFrom};
use crate::probe::rows::{NONE, RowTable};
use crate::probe::split::Part;
use crate::probe::tasks::Task;

/// A label column as probes see it.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// Its name.
    pub(super) name: String,
    /// The class asked about, for yes-no probes.
    pub(super) class: Option<String>,
    /// Names of the task's classes; empty for numbers.
    pub(super) classes: Vec<String>,
    /// Number of its task.
    pub(super) task: usize,
    /// Numbers of its control tasks, one for each seed; none without control labels.
    pub(super) controls: Vec<usize>,
    /// Rows by part whose class no training row has: they count as wrong.
    pub(super) unseen: [u64; 3],
}

impl Label {
    /// As tables have it: `upos`, or `upos=NOUN`.
    pub(super) fn title(&self) -> String {
        match &self.class {
            None => self.name.clone(),
            Some(class) => format!("{}={class}", self.name),
        }
    }
}

/// All tasks, and whose they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    /// By number.
    pub(super) list: Vec<Task>,
    /// In the order of the file.
    pub(super) labels: Vec<Label>,
    /// By row; none without word types.
    pub(super) types: Option<Vec<u32>>,
    /// By row: whether it goes on with the sentence of the one before it.
    pub(super) continues: Vec<bool>,
    /// By column that pairs rows: the value of each row, which nobody learns.
    pub(super) pairs: BTreeMap<String, Vec<u32>>,
}

/// Makes every task of a file; columns of `pairs` are kept as they are.
pub(super) fn tasks(
    probes: &ProbesConfig,
    (labels, pairs): (&Labels, &BTreeSet<String>),
    table: &RowTable,
) -> Result<Tasks> {
    let mut own = Tasks::default();
    let types = labels.columns.iter().position(|column| column.name == WORD_TYPE);
    let types = types.filter(|_| probes.control != Control::None);
    own.types = types.map(|at| table.classes[at].clone());
    own.continues.clone_from(&table.continues);
    for (at, column) in labels.columns.iter().enumerate() {
        if pairs.contains(&column.name) {
            own.pairs.insert(column.name.clone(), table.classes[at].clone());
        }
        if pairs.contains(&column.name) || Some(at) == types {
            continue;
        }
        let forms = types.map(|at| &labels.columns[at].classes);
        own.add(probes, (at, column), table, forms)?;
    }
    Ok(own)
}

impl Tasks {
    fn add(
        &mut self,
        probes: &ProbesConfig,
        (at, column): (usize, &Column),
        table: &RowTable,
        forms: Option<&Vec<String>>,
    ) -> Result<()> {
        if probes.target == Target::Number {
            return self.add_number((at, column), table);
        }
        let counts = |part| class_counts(table, at, column.classes.len(), part);
        // Training rows alone say which classes there are: test rows decide nothing.
        let train = counts(Part::Train);
        let mut next = 0..;
        let enough = |rows: &u64| *rows >= column.min_count.max(1);
        let keep: Vec<Option<u32>> =
            train.iter().map(|rows| enough(rows).then(|| next.next()).flatten()).collect();
        let names = || column.classes.iter().zip(&keep).filter(|(_, kept)| kept.is_some());
        let classes: Vec<String> = names().map(|(name, _)| name.clone()).collect();
        if classes.len() < 2 {
            let what = format!(
                "column '{}' has {} classes in the training rows with min_count or more",
                column.name,
                classes.len()
            );
            return Err(Error::config("concepts", what, "lower min_count, or read more text"));
        }
        let unseen = Part::ALL.map(|part| {
            let absent = |(_, rows): &(u64, &u64)| **rows == 0;
            counts(part).into_iter().zip(&train).filter(absent).map(|(own, _)| own).sum()
        });
        let whole = Task::of_column(table, at, &keep);
        let controls: Vec<Task> = match forms {
            None => Vec::new(),
            Some(forms) => {
                let types = self.types.as_ref().expect("read with the forms");
                let counts = whole.part(Part::Train).counts(classes.len());
                let draw = |seed: &u64| control(probes.control, (*seed, &counts));
                let task = |draw: Result<ControlTask>| Ok(drawn(&whole, &draw?, (forms, types)));
                probes.seeds.iter().map(draw).map(task).collect::<Result<_>>()?
            }
        };
        let label = Label {
            name: column.name.clone(),
            class: None,
            classes,
            task: 0,
            controls: Vec::new(),
            unseen,
        };
        match probes.target {
            Target::OneVsRest => {
                for class in 0..label.classes.len() {
                    let yes = |task: &Task| yes_no(task, class);
                    let mut own = label.clone();
                    own.class = Some(label.classes[class].clone());
                    own.classes = vec!["no".to_owned(), "yes".to_owned()];
                    own.unseen = [0; 3];
                    self.push(own, yes(&whole), controls.iter().map(yes).collect());
                }
            }
            _ => self.push(label, whole, controls),
        }
        Ok(())
    }

    fn push(&mut self, mut label: Label, task: Task, controls: Vec<Task>) {
        label.task = self.list.len();
        self.list.push(task);
        label.controls = (self.list.len()..).take(controls.len()).collect();
        self.list.extend(controls);
        self.labels.push(label);
    }

    fn add_number(&mut self, (at, column): (usize, &Column), table: &RowTable) -> Result<()> {
        if !column.numeric {
            let what = format!("the classes of column '{}' are no numbers", column.name);
            return Err(Error::config("probes.target", what, "use target = \"classes\""));
        }
        #[expect(clippy::cast_possible_truncation, reason = "targets are f32")]
        let numbers: Vec<Option<f32>> = column
            .classes
            .iter()
            .map(|class| class.parse::<f64>().ok().map(|x| x as f32))
            .collect();
        let number = |row: usize| match table.classes[at][row] {
            NONE => None,
            class => numbers[class as usize],
        };
        let label = Label {
            name: column.name.clone(),
            class: None,
            classes: Vec::new(),
            task: 0,
            controls: Vec::new(),
            unseen: [0; 3],
        };
        self.push(label, Task::build(table, 0, number), Vec::new());
        Ok(())
    }
}

fn class_counts(table: &RowTable, column: usize, classes: usize, part: Part) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for (class, own) in table.classes[column].iter().zip(&table.parts) {
        if *class != NONE && part == *own {
            counts[*class as usize] += 1;
        }
    }
    counts
}

/// 1 where a row is of the class, else 0.
fn yes_no(task: &Task, class: usize) -> Task {
    let mut own = task.relabelled(|_, target| f32::from(target as usize == class));
    own.classes = 2;
    own
}

/// Draws a class for each word type: the same wherever the word stands, in every part of the data and
/// on every machine (Hewitt & Liang 2019). `counts` are those of the training rows.
fn control(how: Control, (seed, counts): (u64, &[u64])) -> Result<ControlTask> {
    let from = match how {
        Control::Uniform => DrawnFrom::Uniform,
        Control::Same | Control::None => DrawnFrom::Labels,
    };
    ControlTask::new(counts, ControlSettings { seed, from, ..ControlSettings::default() })
}

/// The same rows with the classes of their word types; 0 for rows without one.
fn drawn(task: &Task, draw: &ControlTask, (forms, types): (&[String], &[u32])) -> Task {
    let classes: Vec<f32> = forms.iter().map(|form| draw.label(form) as f32).collect();
    task.relabelled(|row, _| match types[row as usize] {
        NONE => 0.0,
        form => classes[form as usize],
    })
}
