// A user's session with openapi-generator's TypeScript client; its argument is the server's URL.
import {
    AuthenticationApi,
    Configuration,
    HealthApi,
    ProblemFromJSON,
    ResponseError,
    TasksApi,
    TaskStatus,
    type Problem,
} from "./client";

declare const process: {argv: string[]};

const email = "typescript@example.com";
const password = "correct horse battery staple";

function equal<Value>(found: Value, expected: Value): void {
    if (JSON.stringify(found) !== JSON.stringify(expected)) {
        throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
    }
}

// Returns the problem of a call that is refused.
async function refusal(call: Promise<unknown>): Promise<Problem> {
    try {
        await call;
    } catch (error) {
        if (!(error instanceof ResponseError)) throw error;
        return ProblemFromJSON(await error.response.json());
    }
    throw new Error("The call was not refused");
}

async function main(basePath: string): Promise<void> {
    const health = new HealthApi(new Configuration({basePath}));
    equal((await health.getHealth()).status, "healthy");
    equal((await health.getLiveness()).status, "live");
    equal((await health.getReadiness()).status, "ready");

    const stranger = new AuthenticationApi(new Configuration({basePath}));
    const registered = await stranger.register({registration: {email, password}});
    const taken = await refusal(stranger.register({registration: {email, password}}));
    equal([taken.status, taken.errors?.[0].field], [409, "email"]);
    const wrong = await refusal(stranger.logIn({login: {email, password: "wrong"}}));
    equal(wrong.status, 401);
    const session = await stranger.logIn({login: {email, password}});
    equal(session.user, {id: registered.userId, email});
    equal((await refusal(new TasksApi(new Configuration({basePath})).listTasks())).status, 401);

    const configuration = new Configuration({basePath, accessToken: session.token});
    const tasks = new TasksApi(configuration);
    const create = {taskCreate: {title: " Buy milk "}, idempotencyKey: "milk"};
    const milk = await tasks.createTask(create);
    equal([milk.title, milk.description, milk.status], ["Buy milk", "", TaskStatus.Pending]);
    equal(await tasks.createTask(create), milk);
    for (const title of ["Buy bread", "Call Ada"]) {
        await tasks.createTask({taskCreate: {title, description: "\u{1f600}\n"}});
    }
    const invisible = await refusal(tasks.createTask({taskCreate: {title: "\u200b"}}));
    equal([invisible.status, invisible.errors?.[0].field], [400, "title"]);

    const first = await tasks.listTasks({limit: 2});
    equal(first.tasks.map(task => task.title), ["Call Ada", "Buy bread"]);
    const second = await tasks.listTasks({limit: 2, after: first.nextCursor ?? undefined});
    equal(second, {tasks: [milk], nextCursor: null});
    equal((await refusal(tasks.listTasks({after: "nonsense"}))).status, 400);

    const {id} = milk;
    const ifMatch = (await tasks.getTaskRaw({id})).raw.headers.get("ETag") ?? "";
    try {
        await tasks.getTask({id, ifNoneMatch: ifMatch});
        throw new Error("An unchanged task was sent again");
    } catch (error) {
        if (!(error instanceof ResponseError)) throw error;
        equal(error.response.status, 304);
    }
    const done = {id, taskUpdate: {status: TaskStatus.Completed}, ifMatch};
    const changed = await tasks.updateTask(done);
    equal([changed.status, changed.title], [TaskStatus.Completed, "Buy milk"]);
    equal((await refusal(tasks.updateTask(done))).status, 412);
    const put = await tasks.putTask({id, taskUpdate: {title: "Buy oat milk"}});
    equal([put.status, put.title], [TaskStatus.Completed, "Buy oat milk"]);
    const completed = await tasks.listTasks({status: TaskStatus.Completed});
    equal(completed.tasks.map(task => task.id), [id]);
    equal((await refusal(tasks.deleteTask({id, ifMatch}))).status, 412);

    const unknown = await refusal(tasks.getTask({id: "01900000-0000-7000-8000-000000000000"}));
    equal([unknown.status, unknown.type], [404, "about:blank"]);
    await tasks.deleteTask({id});
    equal((await refusal(tasks.getTask({id}))).status, 404);
    await new AuthenticationApi(configuration).logOut();
    equal((await refusal(tasks.listTasks())).status, 401);
}

main(process.argv[2]).then(() => console.log("done"));
