import { fork } from 'node:child_process';

const child = fork('child.py', [], { execPath: 'python3' });

const texts = ['to be or not to be', 'ünïcödé 🙂', ''];
let waiting = texts.length;

child.on('message', (message) => {
  if (message.ready) {
    for (const text of texts) child.send({ text });
    return;
  }
  console.log(`${JSON.stringify(message.text)} has ${message.words} words`);
  if (--waiting === 0) child.disconnect();
});

child.on('exit', (code) => console.log(`the child ended with ${code}`));
