// Where a project publishes, in a few words.

export const whatOf = (type, known) => known.find((target) => target.name === type)?.what ?? `${type} (not known here)`;

/** To what the project publishes. */
export function publishesTo(project, known) {
  const names = project.targets.filter((target) => !target.paused).map(({ type }) => whatOf(type, known));
  return names.join(", ") || "nothing";
}
